"""`fsc analyse --measure correlation`: how alike teacher and students are where blocks end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from fsc.cli import tables
from fsc.cli.progress import Reporter
from fsc.cli.run import batch_size_for
from fsc.cli.trial import Findings, Trial
from fsc.report import figure
from fsc.report.correlation import BlockCorrelation, correlations
from fsc.result import Result

_NOTE = tables.wrapped(
    "Pearson's correlation of what a channel is in teacher and student, before the activation, at "
    "all pixels of the test images, mean over the channels that stay; 1 is the same, nearer to 1 "
    "is better",
    "-: the layer is not in that student, or constant in the teacher",
)


def findings(trial: Trial, results: Mapping[str, Result], reporter: Reporter) -> Findings:
    """Correlate students, by method, with their teacher (FSKD, Fig. 3a)."""
    teacher, images, size = trial.inputs.teacher, trial.images, batch_size_for(trial.inputs)
    found: dict[str, list[BlockCorrelation]] = {}
    for method, result in results.items():
        reporter.say(f"  {method:<15}  measuring on {len(images):,} test images")
        kept = result.report.kept
        found[method] = correlations(teacher, result.student, images, kept=kept, batch_size=size)
    names = ends_of_all([block.name for block in blocks] for blocks in found.values())
    lines = {method: _in_line(names, blocks) for method, blocks in found.items()}

    def draw(path: Path) -> None:
        label = "mean correlation with the teacher"
        figure.draw_lines(
            names, lines, path, title=trial.title, label=label, place="end of a block"
        )

    students = [{"method": m, "blocks": [asdict(b) for b in each]} for m, each in found.items()]
    return Findings(students, [_table(trial.title, names, lines)], draw)


def ends_of_all(students: Iterable[Sequence[str]]) -> list[str]:
    """Every block end that a student has, in order of execution.

    Args:
        students: the names of each in that order; one may lack some that others have.

    Example:
        >>> ends_of_all([["a", "c"], ["a", "b", "c"], ["c", "d"]])
        ['a', 'b', 'c', 'd']
    """
    found: list[str] = []
    for names in students:
        place = len(found)
        for name in reversed(names):  # in front of the one that runs next
            if name in found:
                place = found.index(name)
            else:
                found.insert(place, name)
    return found


def _in_line(names: list[str], blocks: list[BlockCorrelation]) -> list[float | None]:
    by_name = {block.name: block.correlation for block in blocks}
    return [by_name.get(name) for name in names]


def _table(title: str, names: list[str], lines: Mapping[str, list[float | None]]) -> Table:
    table = Table(title=f"{title}: correlation with the teacher", caption=_NOTE, box=tables.BOX)
    table.pad_edge = False
    table.add_column("layer", no_wrap=True)
    for method in lines:
        table.add_column(method, justify="right", no_wrap=True)
    for row in zip(names, *lines.values(), strict=True):
        table.add_row(row[0], *("-" if value is None else f"{value:.4f}" for value in row[1:]))
    return table
