"""What is measured of a student and its teacher: right answers, kB on disk, time for an image."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from fsc.cli import known_accuracy, tables
from fsc.cli.inputs import Inputs
from fsc.cli.progress import Reporter
from fsc.cli.run import accuracy_on_test, save_model
from fsc.networks.cost import Size
from fsc.networks.latency import latencies
from fsc.report.interval import correct, wilson

COST_NOTE = "kB: of the file; ms: for one image alone on one thread, median of 50"


@dataclass(frozen=True)
class Measured:
    """What was measured of a student and its teacher.

    Attributes:
        num_test: test images.
        top1: the student's accuracy in percent; None where nothing was evaluated.
        top1_teacher: the teacher's.
        kilobytes: of the student's file, of the teacher's as fsc writes it.
        milliseconds: median time for one image, of the student, of the teacher.
    """

    num_test: int
    top1: float | None
    top1_teacher: float | None
    kilobytes: tuple[float, float]
    milliseconds: tuple[float, float]

    def to_dict(self) -> dict[str, Any]:
        """What the report of a run holds of it."""
        found: dict[str, Any] = {}
        for name, pair in (("kilobytes", self.kilobytes), ("milliseconds", self.milliseconds)):
            found |= {name: pair[0], f"{name}_teacher": pair[1]}
        if self.top1 is not None:
            found |= {"top1": self.top1, "top1_teacher": self.top1_teacher}
            found |= {"test_images": self.num_test}
            found |= {"top1_interval": list(wilson(self.top1, self.num_test))}
        return found

    def row(self, name: str, size: Size, seconds: list[float], *, of_teacher: bool) -> tables.Row:
        """The line of the student or the teacher in a table."""
        top1 = self.top1_teacher if of_teacher else self.top1
        return tables.Row(
            name,
            [] if top1 is None else [top1],
            seconds,
            size,
            num_test=self.num_test,
            kilobytes=self.kilobytes[of_teacher],
            milliseconds=self.milliseconds[of_teacher],
        )

    @property
    def notes(self) -> list[str]:
        """What a table of it must explain."""
        explained = [COST_NOTE, tables.FLOPS_NOTE]
        return explained if self.top1 is None else [tables.INTERVAL_NOTE, *explained]


def measure(
    inputs: Inputs, student: nn.Module, path: Path, reporter: Reporter, *, evaluated: bool
) -> Measured:
    """Measure a student that was written to `path`, beside its teacher.

    Args:
        inputs: teacher and test images.
        student: the network.
        path: its file.
        reporter: told of the progress.
        evaluated: whether to count right answers too, which takes longer than all the rest.
    """
    top1 = top1_teacher = None
    if evaluated:
        top1 = accuracy_on_test(student, inputs, reporter, "student")
        top1_teacher = teacher_accuracy(inputs, reporter)
    own, teachers = milliseconds(inputs, [student, inputs.teacher], reporter)
    with tempfile.TemporaryDirectory() as folder:
        # As a file of fsc too: the teacher's own may hold more than weights, or half of their bits.
        file = Path(folder) / "teacher.safetensors"
        save_model(file, inputs.teacher, inputs)
        sizes = kilobytes(path), kilobytes(file)
    return Measured(len(inputs.test_images), top1, top1_teacher, sizes, (own, teachers))


def teacher_accuracy(inputs: Inputs, reporter: Reporter) -> float:
    """Top-1 accuracy of the teacher in percent; measured once, then kept between runs.

    Says so where it was kept, and where it cannot be.
    """
    key = known_accuracy.identity(inputs)
    known = known_accuracy.find(key)
    if known is not None:
        reporter.say(
            f"  The teacher's {known:.2f} % were measured in an earlier run and are kept in\n"
            f"  {known_accuracy.folder()}."
        )
        return known
    top1 = accuracy_on_test(inputs.teacher, inputs, reporter, "teacher")
    try:
        known_accuracy.keep(key, correct(top1, len(inputs.test_images)))
    except OSError as error:
        reporter.say(f"  The teacher's accuracy is not kept for later runs: {error}")
    return top1


def milliseconds(inputs: Inputs, networks: Sequence[nn.Module], reporter: Reporter) -> list[float]:
    """Median time that each network takes for one test image."""
    reporter.stage("measuring the time for one image")
    return latencies(networks, inputs.test_images[:1])


def kilobytes(path: Path) -> float:
    """Size of a file in kB, 1000 bytes each."""
    return path.stat().st_size / 1000
