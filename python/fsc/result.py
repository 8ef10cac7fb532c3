"""What a compression gives: the student, and a report of what was done."""

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from fsc.images.scale import ImageStatistics
from fsc.methods.base import LayerReport
from fsc.networks.plain import Rewriting


@dataclass(frozen=True)
class Report:
    """What was done and what it gave; `to_dict` is what the JSON files hold.

    Args:
        method: name of the method's class.
        hyper_parameters: its fields.
        scheme: name of the scheme.
        num_images: images used.
        images: their mean, deviation and range, channel by channel, of one input after the other.
        seed: seed of whatever was drawn.
        device: where it was computed.
        dtype: of teacher and student; half precision is solved in float32.
        seconds: wall time of the compression.
        parameters: number of parameters of the student, and of the teacher.
        nonzero: number of parameters of the student that are not zero.
        flops: multiply-accumulates for one image, of the student and of the teacher.
        distance: how far the student's outputs are from the teacher's on the images, squared, as a
            share of the teacher's energy.
        distance_start: the same of the pruned or rounded teacher, before anything is recovered;
            None where its outputs are not finite.
        layers: errors of the solved layers, for layer-wise methods.
        learning_rates: of every run of a method that trains; the student is that of the last, the
            others diverged.
        kept: the kept output channels of every layer that lost some.
        dropped: the names of the blocks that are gone.
        decoupled: the names of the layers that are a depthwise and a pointwise one -> terms.
        left: the layers that were to be pruned or changed and could not be -> why.
        warnings: what may not be as it was meant; each was also raised as a `CompressionWarning`.
        rewritten: what was rewritten in layers of torch.nn before, and what was left and why.
        versions: of Python, this package, its build, and the packages it computes with.
    """

    method: str
    hyper_parameters: dict[str, Any]
    scheme: str
    num_images: int
    images: ImageStatistics
    seed: int
    device: str
    dtype: str
    seconds: float
    parameters: int
    parameters_teacher: int
    nonzero: int
    flops: int
    flops_teacher: int
    distance: float
    distance_start: float | None
    layers: list[LayerReport] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    kept: dict[str, list[int]] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    decoupled: dict[str, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    rewritten: list[Rewriting] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as plain lists, dicts, strings and numbers."""
        return asdict(self)


@dataclass(frozen=True)
class Result:
    """A compressed network and how it came about.

    Args:
        student: the smaller network, in eval mode.
        report: what was done.
    """

    student: nn.Module
    report: Report
