"""What every method is given and gives back; a method knows when, the solvers know what."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor, nn

from fsc.channels.groups import ChannelGroup
from fsc.images.folder import ImageFolder
from fsc.methods.journal import Journal
from fsc.methods.whole_layers import check_takes, refusal
from fsc.progress import Log, Progress
from fsc.schemes import (
    AnyScheme,
    Decoupling,
    DropBlocks,
    QuantizedScheme,
    Scheme,
    SparseScheme,
    channels_left,
)
from fsc.schemes.removal import Removal
from fsc.wording import shown

# What methods cannot take that choose among channels.
WITHOUT_CHANNELS = (SparseScheme, QuantizedScheme)


@dataclass(frozen=True)
class Task:
    """One compression: everything a method may use, validated by `fsc.compress`.

    Args:
        teacher: the pretrained network in eval mode; methods leave it as it is.
        images: [N, C, H, W] float, normalised as the teacher expects.
        scheme: which layers keep how many output channels, or how many weights, or which blocks
            go or layers are decoupled, by name.
        batch_size: images that go through the networks at once.
        memory_budget: bytes for the walk's activations, held and worked with, before they go to
            disk; None: no limit. The columns, inputs or matrices that a single layer is solved from
            come on top.
        seed: seeds whatever a method draws.
        progress: told what is being done.
        journal: where solved layers, or the state of a training, are kept; None: nowhere.
        groups: the teacher's channels as they go together, where the scheme removes some.
        removal: what removing channels costs each group, where it is known already.
        labels: classes of the images, int64 [N], for a method that learns them.
        originals: the files that the images were made from, for a method that crops these.
        log: told the loss now and then, by a method that trains.
        doubts: what to tell before the work: what stays is not quite what was asked for.
    """

    teacher: nn.Module
    images: Tensor
    scheme: AnyScheme
    batch_size: int = 64
    memory_budget: int | None = None
    seed: int = 0
    progress: Progress | None = None
    journal: Journal | None = None
    groups: Sequence[ChannelGroup] = ()
    removal: Mapping[str, Removal] = field(default_factory=dict)
    labels: Tensor | None = None
    originals: ImageFolder | None = None
    log: Log | None = None
    doubts: Sequence[str] = ()

    def channels_left(self) -> dict[str, int]:
        """How many channels of each group stay, for methods that remove channels.

        Raises:
            ValueError: the scheme removes no channels.
        """
        if isinstance(self.scheme, DropBlocks | Decoupling):
            raise ValueError(refusal(self.scheme, "this method"))
        if not isinstance(self.scheme, Scheme):
            raise ValueError(_removes_no_channels(self.scheme, "this method"))
        return channels_left(self.scheme, self.teacher, self.groups)


@dataclass(frozen=True)
class LayerReport:
    """How well one layer was recovered.

    Args:
        name: the layer that was solved.
        columns: pixels over all images that the layer saw.
        error_before: its objective with the teacher's weight on the kept channels, per image.
        error: its objective with the solved weight, before any recalibration, per image.
        relative_error: `error` over the mean square of the teacher's output, per image.
        seconds: time of its solution, statistics not counted.
    """

    name: str
    columns: int
    error_before: float
    error: float
    relative_error: float
    seconds: float


@dataclass
class Outcome:
    """What a method made.

    Args:
        student: the compressed network in eval mode, really smaller.
        kept: the channels that stay of every group that lost some.
        layers: one report per solved layer.
        learning_rates: of every run of a method that trains; the student is that of the last.
        held_back: layers that the scheme was to change and the method could not -> why.
        warnings: sentences about what did not go as it should.
    """

    student: nn.Module
    kept: dict[str, Tensor]
    layers: list[LayerReport] = field(default_factory=list)
    learning_rates: list[float] = field(default_factory=list)
    held_back: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


class Method(Protocol):
    """A compression method: a dataclass of hyper-parameters with the paper's defaults.

    One that learns labels says so by `label_use`, "needed" or "optional", one that removes single
    weights and nothing else by `takes_weights_alone`, and one that cannot do so, or cannot
    quantize, by `cannot_take`, the kinds of schemes.
    """

    def compress(self, task: Task) -> Outcome:
        """Makes a student out of the task's teacher."""


def check_fits(method: Method, scheme: object, given: str, called: str | None = None) -> None:
    """Make sure that a method takes a scheme, before any work is done.

    Args:
        method: any.
        scheme: of any kind, or what is asked for in the place of one.
        given: what was asked for, in words.
        called: what sentences call the method; None: its class.

    Raises:
        ValueError: it does not.
    """
    _check_removes_weights(method, scheme, given, called)
    check_takes(method, scheme, called)
    if isinstance(scheme, WITHOUT_CHANNELS) and isinstance(
        scheme, getattr(method, "cannot_take", ())
    ):
        raise ValueError(_removes_no_channels(scheme, called or type(method).__name__))


def _removes_no_channels(scheme: SparseScheme | QuantizedScheme, method: str) -> str:
    takers = "cross distillation takes it"
    if isinstance(scheme, SparseScheme):
        takers = "cross distillation and ProgressiveMiR take it"
    return (
        f"scheme must be structured for {method}, got {shown(scheme.name)}, "
        f"which removes no channels; {takers}"
    )


def _check_removes_weights(method: Method, scheme: object, given: str, called: str | None) -> None:
    """Make sure that a scheme removes single weights, for a method that takes no other."""
    if getattr(method, "takes_weights_alone", False) and not isinstance(scheme, SparseScheme):
        name = called or type(method).__name__
        raise ValueError(
            f"scheme must remove single weights for {name}, as sparse-90 does, got {given}"
        )
