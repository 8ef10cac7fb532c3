"""`fsc analyse --measure blocks`: accuracy with the first blocks recovered, the others pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from fsc import method_names
from fsc.cli import tables
from fsc.cli.progress import Reporter
from fsc.cli.run import batch_size_for
from fsc.cli.trial import Findings, Trial
from fsc.report import figure
from fsc.report.interval import SMALL_TEST_SET
from fsc.report.recovery import PartlyRecovered, accuracy_along
from fsc.result import Result
from fsc.schemes import Decoupling
from fsc.training.evaluate import accuracy

_NONE = "none"


def findings(trial: Trial, results: Mapping[str, Result], reporter: Reporter) -> Findings:
    """Count what students, by method, get right along their blocks (FSKD, Fig. 3b).

    The student that is only pruned, or decoupled, is among them.
    """
    pruned, size = results[method_names.DATA_FREE].student, batch_size_for(trial.inputs)
    given = (trial.images, trial.labels)
    found: dict[str, list[PartlyRecovered]] = {}
    for method, result in results.items():
        if method == method_names.DATA_FREE:
            continue
        reporter.say(f"  {method:<15}  measuring on {len(trial.images):,} test images")
        stage = reporter.stage(method)
        found[method] = accuracy_along(
            pruned, result.student, *given, batch_size=size, progress=stage
        )
    teacher_top1 = accuracy(trial.inputs.teacher, *given, size)
    names = [each.name or _NONE for each in next(iter(found.values()))]
    lines = {method: [each.top1 for each in steps] for method, steps in found.items()}
    num_test = len(trial.images) if len(trial.images) < SMALL_TEST_SET else None

    def draw(path: Path) -> None:
        figure.draw_lines(
            names,
            lines,
            path,
            title=trial.title,
            label=figure.ACCURACY,
            place=f"last block recovered; those behind it are only {_made(trial)}",
            level=teacher_top1,
            level_name=f"teacher, {teacher_top1:.2f} %",
            num_test=num_test,
        )

    students = [
        {"method": m, "top1_teacher": teacher_top1, "blocks": [asdict(each) for each in steps]}
        for m, steps in found.items()
    ]
    return Findings(students, [_table(trial, names, lines, teacher_top1)], draw)


def _made(trial: Trial) -> str:
    """What was done to the blocks before any was recovered."""
    return "decoupled" if isinstance(trial.goal.scheme, Decoupling) else "pruned"


def _table(
    trial: Trial, names: list[str], lines: Mapping[str, list[float]], teacher_top1: float
) -> Table:
    table = Table(
        title=f"{trial.title}: accuracy along the blocks",
        caption=tables.wrapped(
            f"top-1 % on {len(trial.images):,} test images of {trial.inputs.data_title}, with the "
            f"blocks up to this one recovered and those behind it only {_made(trial)}; teacher: "
            f"{teacher_top1:.2f} %; higher is better"
        ),
        box=tables.BOX,
        pad_edge=False,
    )
    table.add_column("recovered up to", no_wrap=True)
    for method in lines:
        table.add_column(method, justify="right", no_wrap=True)
    for row in zip(names, *lines.values(), strict=True):
        table.add_row(row[0], *(f"{value:.2f}" for value in row[1:]))
    return table
