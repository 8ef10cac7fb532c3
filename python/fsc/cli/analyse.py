"""`fsc analyse`: where students differ from their teacher, layer by layer, on test images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from rich.table import Table
from torch import Tensor, nn

from fsc.cli import tables
from fsc.cli.drawing import Draw
from fsc.cli.goals import check_kinds
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.run import Settings, batch_size_for, check_labels, make_student
from fsc.cli.trial import Trial, begun
from fsc.files import write_json
from fsc.goal import Goal
from fsc.images.checks import device_of
from fsc.report import figure
from fsc.report.analysis import LayerErrors, layer_errors

_CROSS_ENTROPY = "cross entropy"
_DISTANCES = tables.wrapped(
    "squared distances in percent of the energy of the teacher's output: L^r estimation, L^c "
    "correction, L^i imitation, ε^S and ε^T inconsistencies of student and teacher",
    "-: cannot be compared, as the student lost channels of that layer or of its input",
)


@dataclass(frozen=True)
class Analysis:
    """One student against its teacher; the cross entropy is the mean over the test images."""

    method: str
    cross_entropy: float
    layers: list[LayerErrors]


def command(
    draw: Draw,
    source: Source,
    results: Results,
    scheme_name: str,
    methods: tuple[str, ...],
    num_test: int,
    seed: int,
    augment: str | None,
) -> None:
    """Measure estimation errors and inconsistencies of students on test images (Fig. 2 and 3)."""
    results.hold()
    trial = begun("analyse", source, scheme_name, draw, num_test, seed)
    check_labels(methods, trial.inputs, augment)
    settings = Settings(Goal(trial.scheme), augment=augment)
    check_kinds(methods, settings.goal)
    with Reporter() as reporter:
        for line in trial.inputs.notes:
            reporter.say(line)
        found = [_analysed(method, trial, settings, reporter) for method in dict.fromkeys(methods)]
    if results.json_path is not None:
        write_json(results.json_path, trial.drawn | {"students": [asdict(a) for a in found]})
    if results.figure_path is not None:
        figure.draw_lines(
            [*(layer.name for layer in found[0].layers), _CROSS_ENTROPY],
            {a.method: _ratios(a, found[0]) for a in found[1:]},
            results.figure_path,
            title=trial.title,
            label=f"estimation error ÷ that of {found[0].method}",
        )
    title = trial.title
    tables.show(*(_table(title, analysis) for analysis in found), _ratio_table(title, found))
    tables.show_written(results.json_path, results.figure_path)


def _analysed(method: str, trial: Trial, settings: Settings, reporter: Reporter) -> Analysis:
    """Make one student and measure it."""
    inputs, images = trial.inputs, trial.images
    batch_size = batch_size_for(inputs)
    student = make_student(method, inputs, trial.sample, settings, reporter).student
    reporter.say(f"  {method:<15}  measuring on {len(images):,} test images")
    layers = layer_errors(inputs.teacher, student, images, batch_size=batch_size)
    entropy = _cross_entropy(student, images, trial.labels, batch_size)
    return Analysis(method, entropy, layers)


@torch.no_grad()
def _cross_entropy(student: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> float:
    device = device_of(student, images)
    scores = torch.cat([student(batch.to(device)) for batch in images.split(batch_size)])
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
    for heading in ("L^r", "L^c", "L^i", "ε^S", "ε^T"):
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
        f"L^r of each student divided by that of {first}: below 1 is nearer to the teacher; -: one "
        "of them has none, or it is zero",
        f"{_CROSS_ENTROPY}: of the student's answers with the labels of the test images, divided "
        f"by that of {first} too",
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
