"""How long a student and its teacher take, as they are or as `torch.compile` makes them."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsc.cli.given import Inputs
from fsc.cli.progress import Reporter
from fsc.images.checks import device_of
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


class _Told(nn.Module):
    """Gives back ones where it is compiled, else zeros."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full_like(images, float(torch.compiler.is_compiling()))


def check_compiles(inputs: Inputs, *, when_folded: bool = False) -> None:
    """Refuse `--compiled` where the teacher cannot be compiled, before a student has cost time.

    Args:
        inputs: the teacher, and an image.
        when_folded: whether `times_when_folded` is to measure it. What torch keeps on disk of a
            network that was compiled serves for every student then, beginning with this call.

    Raises:
        ValueError: with the reason of torch.
    """
    network = inputs.teacher
    if when_folded:
        (network,) = _folded([plain(network, inputs.example)])
    told, teacher = compiled(_Told()), compiled(network)
    image = torch.zeros(1, device=device_of(inputs.teacher, inputs.example))
    try:
        with Reporter() as reporter:
            _compile([told], [image], reporter)
            if not told(image).all():
                raise ValueError("--compiled must find torch.compile at work, got it disabled")
            _compile([teacher], [inputs.example], reporter)
    finally:
        torch.compiler.reset()


def one_image(inputs: Inputs, networks: Sequence[nn.Module], reporter: Reporter) -> list[float]:
    """Median time that each network takes for one test image."""
    progress = reporter.stage("timing one image")
    return latencies(networks, inputs.example, progress=progress)


def times(inputs: Inputs, student: nn.Module, reporter: Reporter, *, is_compiled: bool) -> Times:
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
    inputs: Inputs, student: nn.Module, reporter: Reporter, *, is_compiled: bool
) -> Times:
    """Time them with BatchNorm folded in both, as some methods leave students.

    What a method folds then is no gain of what it cuts. Where one cannot be folded neither is.
    Arguments and errors are those of `times`.
    """
    networks = _folded([student, plain(inputs.teacher, inputs.example)])
    return _times(inputs, networks, reporter, is_compiled)


def _folded(networks: Sequence[nn.Module]) -> Sequence[nn.Module]:
    """Copies with BatchNorm folded, or the networks where one cannot be folded."""
    folded = [copy.deepcopy(network).eval() for network in networks]
    try:
        for network in folded:
            surgery.fold_batch_norm(network)
    except ValueError:  # a norm without statistics
        return networks
    return folded


def _times(
    inputs: Inputs, networks: Sequence[nn.Module], reporter: Reporter, is_compiled: bool
) -> Times:
    batch = inputs.example.repeat(BATCH, *[1] * (inputs.example.ndim - 1))
    if not is_compiled:
        return _measured(networks, inputs.example, batch, reporter)
    made = [compiled(network) for network in networks]
    try:
        _compile(made, [inputs.example, batch], reporter)
        return _measured(made, inputs.example, batch, reporter)
    finally:
        # One forward is compiled eight times at most: later students would run as they are.
        torch.compiler.reset()


def _compile(networks: Sequence[nn.Module], several: Sequence[Tensor], reporter: Reporter) -> None:
    """Have networks compiled, which happens when they are called, for images of some shapes."""
    try:
        for images in several:
            timings(networks, images, repeats=1, progress=reporter.stage("compiling"))
    except ValueError as refusal:
        error = refusal.__cause__ or refusal  # whatever compilers raise
        words = (line.strip() for line in str(error).splitlines())
        raise ValueError(
            "--compiled must have networks that torch.compile can take as a whole, got "
            f"{type(error).__name__}: {next(filter(None, words), 'no word')}"
        ) from refusal


def _measured(
    networks: Sequence[nn.Module], image: Tensor, batch: Tensor, reporter: Reporter
) -> Times:
    alone = timings(networks, image, progress=reporter.stage("timing one image"))
    progress = reporter.stage(f"timing {BATCH} images")
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
