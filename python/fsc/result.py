"""What a compression gives: the student, and a report of what was done."""

from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from fsc.channels.groups import rows_left
from fsc.images.scale import ImageStatistics, statistics
from fsc.methods.base import LayerReport, Method, Outcome, Task
from fsc.methods.examination import Verdict
from fsc.methods.identity import hyper_parameters, versions
from fsc.networks import cost
from fsc.networks.blocks import dropped_of
from fsc.networks.decoupling import decoupled_of
from fsc.networks.joint_input import joint_of
from fsc.networks.layer_changes import LayerChange, layer_changes
from fsc.networks.plain import Rewriting, rewritings
from fsc.networks.wrappers import dtype_of
from fsc.report import summary


@dataclass(frozen=True)
class Report:
    """What was done and what it gave; `to_dict` is what the JSON files hold.

    Printed, it says so in about ten lines; notebooks show these as a table.

    Args:
        method: name of the method's class.
        hyper_parameters: its fields.
        scheme: name of the scheme.
        num_images: images used.
        inputs: [C, H, W] of every input of an image.
        images: their mean, deviation and range, channel by channel, of one input after the other.
        seed: seed of whatever was drawn.
        device: where it was computed.
        dtype: of teacher and student; half precision is solved in float32.
        seconds: wall time of the compression.
        parameters: number of parameters of the student, and of the teacher.
        nonzero: number of parameters of the student that are not zero.
        flops: multiply-accumulates for one image, of the student and of the teacher.
        distance: how far the student's outputs are from the teacher's on the images, squared, as a
            share of what `distance_of` says of the teacher's.
        distance_of: "variance", over which 1 is no better than a constant answer; or "energy",
            where the teacher's outputs do not vary, as those of a single image.
        distance_start: the same of the pruned or rounded teacher, before anything is recovered;
            None where its outputs are not finite.
        layers: errors of the solved layers, for layer-wise methods.
        learning_rates: of every run of a method that trains; the student is that of the last, the
            others diverged.
        kept: the kept output channels of every layer that lost some.
        changes: channels and weights of every layer, before and after.
        dropped: the names of the blocks that are gone.
        decoupled: the names of the layers that are a depthwise and a pointwise one -> terms.
        left: the layers that keep all channels that they make where a share of all was to go, or of
            which something else could not be done -> why.
        warnings: what may not be as it was meant; each was also raised as a `CompressionWarning`.
        rewritten: what was rewritten in layers of torch.nn before, and what was left and why.
        versions: of Python, this package, its build, and the packages it computes with.
        method_name: what the method was asked for by, such as "seconds"; "" where it was itself.
    """

    method: str
    hyper_parameters: dict[str, Any]
    scheme: str
    num_images: int
    inputs: list[list[int]]
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
    distance_of: str
    distance_start: float | None
    # What is as long as the network is deep is left out of the repr.
    layers: list[LayerReport] = field(default_factory=list, repr=False)
    learning_rates: list[float] = field(default_factory=list)
    kept: dict[str, list[int]] = field(default_factory=dict, repr=False)
    changes: list[LayerChange] = field(default_factory=list, repr=False)
    dropped: list[str] = field(default_factory=list)
    decoupled: dict[str, int] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    rewritten: list[Rewriting] = field(default_factory=list, repr=False)
    versions: dict[str, str] = field(default_factory=dict)
    method_name: str = ""

    def __str__(self) -> str:
        """The most important of it as text, a line each."""
        return summary.as_text(self.to_dict())

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        return summary.as_table(self.to_dict())

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


def report_of(
    method: Method, task: Task, outcome: Outcome, verdict: Verdict, seconds: float
) -> Report:
    """The report of a compression.

    Args:
        method: how it was done.
        task: what was done.
        outcome: what the method made, its student in the dtype of the network as it was given.
        verdict: how far that is from the teacher, and what may not be as it was meant.
        seconds: that it took.
    """
    dtype = dtype_of(outcome.student)
    example, joint = task.images[:1], joint_of(task.teacher)
    shapes = [example.shape[1:]] if joint is None else [place.shape for place in joint.places]
    return Report(
        method=type(method).__name__,
        hyper_parameters=hyper_parameters(method),
        scheme=task.scheme.name,
        num_images=len(task.images),
        inputs=[list(shape) for shape in shapes],
        images=statistics(task.images) if joint is None else joint.statistics(task.images),
        seed=task.seed,
        device=str(task.images.device),
        dtype=str(dtype).removeprefix("torch."),
        seconds=seconds,
        parameters=cost.parameters(outcome.student),
        parameters_teacher=cost.parameters(task.teacher),
        nonzero=cost.nonzero(outcome.student),
        flops=cost.flops(outcome.student, example.to(dtype)),
        flops_teacher=cost.flops(task.teacher, example),
        distance=verdict.distance,
        distance_of=verdict.distance_of,
        distance_start=verdict.distance_start,
        layers=outcome.layers,
        learning_rates=outcome.learning_rates,
        kept={n: rows.tolist() for n, rows in rows_left(task.groups, outcome.kept).items()},
        changes=layer_changes(task.teacher, outcome.student),
        dropped=list(dropped_of(outcome.student)),
        decoupled=decoupled_of(outcome.student),
        left=getattr(task.scheme, "held_back", {}) | outcome.held_back,
        warnings=verdict.warnings,
        rewritten=rewritings(task.teacher),
        versions=versions(),
    )
