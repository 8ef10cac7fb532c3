"""What is measured of a student and its teacher: right answers, kB on disk, time for an image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fsc.cli import known_accuracy, tables, timing
from fsc.cli.given import Inputs
from fsc.cli.progress import Reporter
from fsc.cli.run import Accuracy, accuracy_on_test, header_for
from fsc.networks.cost import Size
from fsc.networks.latency import BATCH
from fsc.networks.tensor_files import content_of
from fsc.networks.wrappers import unwrap
from fsc.report.interval import correct, wilson

COST_NOTE = "kB: of the file; ms: for one image alone on one thread, median of 50"


@dataclass(frozen=True)
class Wanted:
    """What is to be measured of a student and its teacher, beside their files and one image.

    Attributes:
        accuracy: right answers too, which takes longer than all the rest.
        batch: the time of a batch too.
        compiled: both times of what `torch.compile` makes of them, too.
    """

    accuracy: bool
    batch: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Measured:
    """What was measured of a student and its teacher.

    Attributes:
        num_test: test images.
        accuracy: the student's, the teacher's; None where nothing was evaluated.
        kilobytes: of the student's file, of the teacher's as fsc writes it.
        times: milliseconds of the student, of the teacher, by their names in
            `report.known.TIMES`; one image is always timed.
        said: what is to be known of the times, a sentence each.
        warnings: what may not be as it was meant.
    """

    num_test: int
    accuracy: tuple[Accuracy, Accuracy] | None
    kilobytes: tuple[float, float]
    times: Mapping[str, timing.Pair]
    said: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """What the report of a run holds of it."""
        found: dict[str, Any] = {}
        for name, (own, teachers) in {"kilobytes": self.kilobytes, **self.times}.items():
            found |= {name: own, f"{name}_teacher": teachers}
        if self.accuracy is not None:
            student, teacher = self.accuracy
            found |= student.to_dict() | teacher.to_dict("_teacher")
            found |= {"test_images": self.num_test}
            found |= {"top1_interval": list(wilson(student.top1, self.num_test))}
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
            milliseconds=self.times["milliseconds"][of_teacher],
            milliseconds_batch=self.times.get("milliseconds_batch", (None, None))[of_teacher],
            top5=[] if measured is None or measured.top5 is None else [measured.top5],
        )

    @property
    def notes(self) -> list[str]:
        """What a table of it must explain."""
        explained = [COST_NOTE, *self._compiled(), *self.said, tables.FLOPS_NOTE]
        if "milliseconds_batch" in self.times:
            explained.insert(
                1,
                f"ms of {BATCH}: for {BATCH} images at once, likewise, median of {timing.BATCHES}",
            )
        return explained if self.accuracy is None else [tables.INTERVAL_NOTE, *explained]

    def _compiled(self) -> Iterator[str]:
        """The times of what is compiled, which have no columns of their own."""
        alone = self.times.get("milliseconds_compiled")
        batch = self.times.get("milliseconds_batch_compiled")
        if alone is not None and batch is not None:
            yield (
                f"compiled by torch.compile, for one image and for {BATCH}: teacher "
                f"{alone[1]:.2f} and {batch[1]:,.0f} ms, student {alone[0]:.2f} and {batch[0]:,.0f}"
            )


def measure(
    inputs: Inputs,
    student: nn.Module,
    path: Path,
    reporter: Reporter,
    wanted: Wanted,
) -> Measured:
    """Measure a student that was written to `path`, beside its teacher.

    Args:
        inputs: teacher and test images.
        student: the network.
        path: its file.
        reporter: told of the progress.
        wanted: what to measure.
    """
    accuracy = None
    if wanted.accuracy:
        own_accuracy = accuracy_on_test(student, inputs, reporter, "student")
        accuracy = own_accuracy, teacher_accuracy(inputs, reporter)
    # As a file of fsc too: the teacher's own may hold more than weights, or half of their bits.
    sizes = kilobytes(path), kilobytes_as_saved(inputs)
    num_test = len(inputs.test_images)
    if not wanted.batch:
        own, teachers = timing.one_image(inputs, [student, inputs.teacher], reporter)
        return Measured(num_test, accuracy, sizes, {"milliseconds": (own, teachers)})
    times = timing.times(inputs, student, reporter, is_compiled=False).named()
    if not wanted.compiled:
        return Measured(num_test, accuracy, sizes, times)
    try:
        compiled = timing.times(inputs, student, reporter, is_compiled=True).named("_compiled")
    except ValueError as error:  # of the student alone: what else was measured is worth having
        return Measured(num_test, accuracy, sizes, times, said=(str(error),))
    return Measured(num_test, accuracy, sizes, times | compiled)


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


def kilobytes_as_saved(inputs: Inputs) -> float:
    """Size of the teacher in kB as fsc writes it."""
    # In memory: a file would be left behind by what is killed.
    teacher = inputs.teacher
    return len(content_of(unwrap(teacher).state_dict(), header_for(teacher, inputs))) / 1000


def kilobytes(path: Path) -> float:
    """Size of a file in kB, 1000 bytes each."""
    return path.stat().st_size / 1000
