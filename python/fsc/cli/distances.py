"""`fsc analyse --measure distances`: estimation errors and inconsistencies, layer by layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from rich.table import Table
from torch import Tensor, nn

from fsc.cli import tables
from fsc.cli.progress import Reporter
from fsc.cli.run import batch_size_for
from fsc.cli.trial import Findings, Trial
from fsc.images.checks import device_of
from fsc.networks.calls import call_of, output_of
from fsc.report import figure
from fsc.report.analysis import LayerErrors, layer_errors
from fsc.result import Result

_CROSS_ENTROPY = "cross entropy"
# With the papers' letters.
_HEADINGS = (
    *("estimation\nL^r", "correction\nL^c", "imitation\nL^i"),
    *("drift, student\nε^S", "drift, teacher\nε^T"),
)
_DISTANCES = tables.wrapped(
    "Squared distances in percent of the energy of the teacher's output; smaller is better, 0 is "
    "the same. The outputs that are compared:",
    "estimation: the teacher's layer in the teacher, the student's in the student",
    "correction: both layers on the teacher's input; imitation: both on the student's",
    "drift: one layer, the student's or the teacher's, on the inputs of both networks",
    "-: cannot be compared, as the student lost channels of that layer or of its input",
)


@dataclass(frozen=True)
class Analysis:
    """One student against its teacher; the cross entropy is the mean over the test images."""

    method: str
    cross_entropy: float
    layers: list[LayerErrors]


def findings(trial: Trial, results: Mapping[str, Result], reporter: Reporter) -> Findings:
    """Measure the distances of Fig. 2 and 3 of cross distillation for students, by method."""
    found = [_analysed(method, result, trial, reporter) for method, result in results.items()]
    title = trial.title

    def draw(path: Path) -> None:
        draw_ratios(found, path, title=title)

    shown = [*(_table(title, analysis) for analysis in found), _ratio_table(title, found)]
    return Findings([asdict(analysis) for analysis in found], shown, draw)


def draw_ratios(found: Sequence[Analysis], path: Path, *, title: str) -> None:
    """Draw each student's errors over those of the first; the cross entropy stands by itself."""
    first = found[0]
    lines: dict[str, list[float | None]] = {}
    for analysis in found[1:]:
        *layers, entropy = _ratios(analysis, first)
        # No line leads from the last layer to what is no error of one.
        lines[analysis.method] = [*layers, None, entropy]
    figure.draw_lines(
        [*(layer.name for layer in first.layers), "", _CROSS_ENTROPY],
        lines,
        path,
        title=title,
        label=f"estimation error ÷ that of {first.method}",
    )


def _analysed(method: str, result: Result, trial: Trial, reporter: Reporter) -> Analysis:
    """Measure one student."""
    inputs, images, student = trial.inputs, trial.images, result.student
    reporter.say(f"  {method:<15}  measuring on {len(images):,} test images")
    batch_size = batch_size_for(inputs)
    layers = layer_errors(inputs.teacher, student, images, batch_size=batch_size)
    entropy = _cross_entropy(student, images, trial.labels, batch_size)
    return Analysis(method, entropy, layers)


@torch.no_grad()
def _cross_entropy(student: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    device = device_of(student, images)
    scores = torch.cat(
        [output_of(student, call_of(batch.to(device))) for batch in images.split(batch_size)]
    )
    return float(nn.functional.cross_entropy(scores, labels.to(device)))


def _ratios(analysis: Analysis, first: Analysis) -> list[float | None]:
    """Estimation errors of every layer, then the cross entropy, divided by those of the first."""
    pairs = [
        (own.estimation, other.estimation)
        for own, other in zip(analysis.layers, first.layers, strict=True)
    ]
    pairs.append((analysis.cross_entropy, first.cross_entropy))
    return [own / other if own is not None and other else None for own, other in pairs]


def _table(title: str, analysis: Analysis) -> Table:
    """The distances of one student, as shares of the energy of the teacher's output."""
    table = Table(
        title=f"{title}: {analysis.method}",
        caption=_DISTANCES,
        box=tables.BOX,
        pad_edge=False,
    )
    table.add_column("layer", no_wrap=True)
    for heading in _HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    for layer in analysis.layers:
        distances = (
            layer.estimation,
            layer.correction,
            layer.imitation,
            layer.inconsistency_student,
            layer.inconsistency_teacher,
        )
        cells = ["-" if d is None else f"{100 * d / layer.energy:.2f}" for d in distances]
        table.add_row(layer.name, *cells)
    return table


def _ratio_table(title: str, found: Sequence[Analysis]) -> Table:
    first = found[0].method
    table = Table(title=f"{title}: estimation errors ÷ {first}", box=tables.BOX)
    table.pad_edge = False
    table.caption = tables.wrapped(
        f"Estimation error of each student divided by that of {first}: below 1 is better, nearer "
        f"to the teacher than {first}; above 1 is worse; -: one of them has none, or it is zero",
        f"{_CROSS_ENTROPY}: of the student's answers with the labels of the test images, divided "
        f"by that of {first} too; below 1 is better",
    )
    table.add_column("layer", no_wrap=True)
    for analysis in found[1:]:
        table.add_column(analysis.method, justify="right", no_wrap=True)
    names = [*(layer.name for layer in found[0].layers), _CROSS_ENTROPY]
    columns = [_ratios(analysis, found[0]) for analysis in found[1:]]
    for row, name in enumerate(names):
        values = [column[row] for column in columns]
        table.add_row(name, *("-" if value is None else f"{value:.3f}" for value in values))
    return table
