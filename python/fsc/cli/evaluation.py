"""What is measured of a student and its teacher: right answers, kB on disk, time for an image."""

from __future__ import annotations

import copy
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fsc.cli import known_accuracy, tables
from fsc.cli.given import Inputs
from fsc.cli.progress import Reporter
from fsc.cli.run import Accuracy, accuracy_on_test, header_for
from fsc.networks import surgery
from fsc.networks.cost import Size
from fsc.networks.latency import BATCH, latencies, timings
from fsc.networks.plain import plain
from fsc.networks.tensor_files import content_of
from fsc.networks.wrappers import unwrap
from fsc.report.interval import correct, wilson

COST_NOTE = "kB: of the file; ms: for one image alone on one thread, median of 50"
# A batch is timed a few times, because each takes long.
_BATCHES = 5
TIMES_NOTE = f"ms: for one image alone and for {BATCH} at once, on one thread"


@dataclass(frozen=True)
class Times:
    """Milliseconds for one image and for a batch, on one thread: of a student, of its teacher.

    Attributes:
        student: medians.
        teacher: medians.
        shares: the middle half of what the student took over what the teacher took, turn by turn.
    """

    student: tuple[float, float]
    teacher: tuple[float, float]
    shares: tuple[tuple[float, float], tuple[float, float]]


@dataclass(frozen=True)
class Measured:
    """What was measured of a student and its teacher.

    Attributes:
        num_test: test images.
        accuracy: the student's, the teacher's; None where nothing was evaluated.
        kilobytes: of the student's file, of the teacher's as fsc writes it.
        milliseconds: median time for one image, of the student, of the teacher.
        milliseconds_batch: likewise for a batch; None where it was not measured.
        said: what is to be known of the times, a sentence each.
        warnings: what may not be as it was meant.
    """

    num_test: int
    accuracy: tuple[Accuracy, Accuracy] | None
    kilobytes: tuple[float, float]
    milliseconds: tuple[float, float]
    milliseconds_batch: tuple[float, float] | None = None
    said: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What the report of a run holds of it."""
        found: dict[str, Any] = {}
        for name in ("kilobytes", "milliseconds", "milliseconds_batch"):
            if (pair := getattr(self, name)) is not None:
                found |= {name: pair[0], f"{name}_teacher": pair[1]}
        if self.accuracy is not None:
            own, teachers = self.accuracy
            found |= own.to_dict() | teachers.to_dict("_teacher")
            found |= {"test_images": self.num_test}
            found |= {"top1_interval": list(wilson(own.top1, self.num_test))}
        return found

    def in_words(self, test_name: str) -> dict[str, float]:
        """What the card of a student says of it: accuracies alone, which no machine changes."""
        if self.accuracy is None:
            return {}
        found: dict[str, float] = {}
        for who, each in zip(("student", "teacher"), self.accuracy, strict=True):
            for key, share in each.to_dict().items():
                found[f"{key.replace('top', 'top-')} % of the {who} on {test_name}"] = share
        return found

    def row(self, name: str, size: Size, seconds: list[float], *, of_teacher: bool) -> tables.Row:
        """The line of the student or the teacher in a table."""
        measured = None if self.accuracy is None else self.accuracy[of_teacher]
        return tables.Row(
            name,
            [] if measured is None else [measured.top1],
            seconds,
            size,
            num_test=self.num_test,
            kilobytes=self.kilobytes[of_teacher],
            milliseconds=self.milliseconds[of_teacher],
            milliseconds_batch=self.milliseconds_batch and self.milliseconds_batch[of_teacher],
            top5=[] if measured is None or measured.top5 is None else [measured.top5],
        )

    @property
    def notes(self) -> list[str]:
        """What a table of it must explain."""
        explained = [COST_NOTE, *self.said, tables.FLOPS_NOTE]
        if self.milliseconds_batch is not None:
            batch = f"ms of {BATCH}: for {BATCH} images at once, likewise, median of {_BATCHES}"
            explained.insert(1, batch)
        return explained if self.accuracy is None else [tables.INTERVAL_NOTE, *explained]


def measure(
    inputs: Inputs,
    student: nn.Module,
    path: Path,
    reporter: Reporter,
    *,
    evaluated: bool,
    is_timed: bool = False,
) -> Measured:
    """Measure a student that was written to `path`, beside its teacher.

    Args:
        inputs: teacher and test images.
        student: the network.
        path: its file.
        reporter: told of the progress.
        evaluated: whether to count right answers too, which takes longer than all the rest.
        is_timed: whether to time a batch too.
    """
    accuracy = None
    if evaluated:
        own_accuracy = accuracy_on_test(student, inputs, reporter, "student")
        accuracy = own_accuracy, teacher_accuracy(inputs, reporter)
    # As a file of fsc too: the teacher's own may hold more than weights, or half of their bits.
    sizes = kilobytes(path), kilobytes_as_saved(inputs)
    if is_timed:
        found = times(inputs, student, reporter)
        alone, batch = zip(found.student, found.teacher, strict=True)
        return Measured(len(inputs.test_images), accuracy, sizes, alone, batch)
    own, teachers = milliseconds(inputs, [student, inputs.teacher], reporter)
    return Measured(len(inputs.test_images), accuracy, sizes, (own, teachers))


def teacher_accuracy(inputs: Inputs, reporter: Reporter) -> Accuracy:
    """Accuracies of the teacher in percent; measured once, then kept between runs.

    Says so where they were kept, and where they cannot be.
    """
    key = known_accuracy.identity(inputs)
    keys = [key if rank == 1 else key | {"rank": rank} for rank in inputs.ranks]
    known = [share for share in map(known_accuracy.find, keys) if share is not None]
    if len(known) == len(keys):
        reporter.say(
            f"  The teacher's {known[0]:.2f} % were measured in an earlier run and are kept in\n"
            f"  {known_accuracy.folder()}."
        )
        return Accuracy(*known)
    found = accuracy_on_test(inputs.teacher, inputs, reporter, "teacher")
    try:
        for each, share in zip(keys, found.to_dict().values(), strict=True):
            known_accuracy.keep(each, correct(share, len(inputs.test_images)))
    except OSError as error:
        reporter.say(f"  The teacher's accuracy is not kept for later runs: {error}")
    return found


def milliseconds(inputs: Inputs, networks: Sequence[nn.Module], reporter: Reporter) -> list[float]:
    """Median time that each network takes for one test image."""
    progress = reporter.stage("timing one image")
    return latencies(networks, inputs.example, progress=progress)


def times(inputs: Inputs, student: nn.Module, reporter: Reporter) -> Times:
    """Time a student and its teacher as they are, for one image and for a batch."""
    return _times(inputs, [student, inputs.teacher], reporter)


def times_when_folded(inputs: Inputs, student: nn.Module, reporter: Reporter) -> Times:
    """Time them with BatchNorm folded in both, as some methods leave students.

    What a method folds then is no gain of what it cuts. Where one cannot be folded neither is.
    """
    networks = [student, plain(inputs.teacher, inputs.example)]
    folded = [copy.deepcopy(network).eval() for network in networks]
    try:
        for network in folded:
            surgery.fold_batch_norm(network)
    except ValueError:  # a norm without statistics
        folded = networks
    return _times(inputs, folded, reporter)


def _times(inputs: Inputs, networks: Sequence[nn.Module], reporter: Reporter) -> Times:
    batch = inputs.example.repeat(BATCH, *[1] * (inputs.example.ndim - 1))
    alone = timings(networks, inputs.example, progress=reporter.stage("timing one image"))
    progress = reporter.stage(f"timing {BATCH} images")
    together = timings(networks, batch, repeats=_BATCHES, progress=progress)
    own, teachers = (
        (statistics.median(alone[each]), statistics.median(together[each])) for each in (0, 1)
    )
    return Times(own, teachers, (_middle_half(*alone), _middle_half(*together)))


def _middle_half(student: Sequence[float], teacher: Sequence[float]) -> tuple[float, float]:
    """Between which shares of the teacher's time the student's lay in every second turn."""
    shares = [own / whole for own, whole in zip(student, teacher, strict=True)]
    low, _, high = statistics.quantiles(shares, n=4, method="inclusive")
    return low, high


def kilobytes_as_saved(inputs: Inputs) -> float:
    """Size of the teacher in kB as fsc writes it."""
    # In memory: a file would be left behind by what is killed.
    teacher = inputs.teacher
    return len(content_of(unwrap(teacher).state_dict(), header_for(teacher, inputs))) / 1000


def kilobytes(path: Path) -> float:
    """Size of a file in kB, 1000 bytes each."""
    return path.stat().st_size / 1000
