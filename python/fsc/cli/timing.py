"""How long a student and its teacher take, as they are or as `torch.compile` makes them."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import click
import torch
from torch import nn

from fsc.cli.given import Inputs
from fsc.cli.progress import Reporter
from fsc.networks import surgery
from fsc.networks.latency import BATCH, compiled, latencies, timings
from fsc.networks.plain import plain

# A batch is timed a few times, because each takes long.
BATCHES = 5
Pair = tuple[float, float]


@dataclass(frozen=True)
class Times:
    """Milliseconds for one image and for a batch, on one thread: of a student, of its teacher.

    Attributes:
        student: medians.
        teacher: medians.
        shares: the middle half of what the student took over what the teacher took, turn by turn.
    """

    student: Pair
    teacher: Pair
    shares: tuple[Pair, Pair]

    def named(self, end: str = "") -> dict[str, Pair]:
        """Student and teacher, by what a report calls the times of one image and of a batch."""
        names = (f"milliseconds{end}", f"milliseconds_batch{end}")
        return dict(zip(names, zip(self.student, self.teacher, strict=True), strict=True))


def note(is_compiled: bool) -> str:
    """What a table of times must explain."""
    what = ", compiled by torch.compile" if is_compiled else ""
    return f"ms: for one image alone and for {BATCH} at once, on one thread{what}"


def check_compiles() -> None:
    """Refuses `--compiled` where nothing can be compiled, before anything has cost time.

    Raises:
        click.UsageError: with the reason of torch.
    """
    try:
        with torch.inference_mode():
            compiled(nn.ReLU())(torch.zeros(1))
    except RuntimeError as error:
        raise click.UsageError(
            f"--compiled must find what torch.compile needs, got {_reason(error)}"
        ) from error


def one_image(inputs: Inputs, networks: Sequence[nn.Module], reporter: Reporter) -> list[float]:
    """Median time that each network takes for one test image."""
    progress = reporter.stage("timing one image")
    return latencies(networks, inputs.example, progress=progress)


def times(
    inputs: Inputs, student: nn.Module, reporter: Reporter, *, is_compiled: bool = False
) -> Times:
    """Time a student and its teacher for one image and for a batch.

    Args:
        inputs: the teacher, and an image.
        student: as it is.
        reporter: told of the progress.
        is_compiled: whether to time what `torch.compile` makes of both instead.

    Raises:
        ValueError: one cannot be compiled.
    """
    return _times(inputs, [student, inputs.teacher], reporter, is_compiled)


def times_when_folded(
    inputs: Inputs, student: nn.Module, reporter: Reporter, *, is_compiled: bool = False
) -> Times:
    """Time them with BatchNorm folded in both, as some methods leave students.

    What a method folds then is no gain of what it cuts. Where one cannot be folded neither is.
    Arguments and errors are those of `times`.
    """
    networks = [student, plain(inputs.teacher, inputs.example)]
    folded = [copy.deepcopy(network).eval() for network in networks]
    try:
        for network in folded:
            surgery.fold_batch_norm(network)
    except ValueError:  # a norm without statistics
        folded = networks
    return _times(inputs, folded, reporter, is_compiled)


def _times(
    inputs: Inputs, networks: Sequence[nn.Module], reporter: Reporter, is_compiled: bool
) -> Times:
    if not is_compiled:
        return _measured(inputs, networks, reporter, "timing")
    try:
        made = [compiled(network.eval()) for network in networks]
        return _measured(inputs, made, reporter, "compiling, then timing")
    except RuntimeError as error:
        raise ValueError(
            f"--compiled must have networks that torch.compile can take, got {_reason(error)}"
        ) from error
    finally:
        torch.compiler.reset()  # the code of many students would fill the memory


def _measured(
    inputs: Inputs, networks: Sequence[nn.Module], reporter: Reporter, doing: str
) -> Times:
    batch = inputs.example.repeat(BATCH, *[1] * (inputs.example.ndim - 1))
    alone = timings(networks, inputs.example, progress=reporter.stage(f"{doing} one image"))
    progress = reporter.stage(f"{doing} {BATCH} images")
    together = timings(networks, batch, repeats=BATCHES, progress=progress)
    own, teachers = (
        (statistics.median(alone[each]), statistics.median(together[each])) for each in (0, 1)
    )
    return Times(own, teachers, (_middle_half(*alone), _middle_half(*together)))


def _middle_half(student: Sequence[float], teacher: Sequence[float]) -> Pair:
    """Between which shares of the teacher's time the student's lay in every second turn."""
    shares = [own / whole for own, whole in zip(student, teacher, strict=True)]
    low, _, high = statistics.quantiles(shares, n=4, method="inclusive")
    return low, high


def _reason(error: Exception) -> str:
    """The first line of what torch says, which goes on for pages."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
