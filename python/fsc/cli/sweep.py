"""`fsc sweep`: accuracy against steps, rate, passes or images (MiR and FSKD, Fig. 2 to 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fsc.cli import outputs, repeated, sweep_table, tables
from fsc.cli.comparison import Comparison
from fsc.cli.given import Inputs
from fsc.cli.goals import Asked
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.record import Record
from fsc.cli.repeated import Case
from fsc.cli.settings import Resources, Settings
from fsc.cli.swept import LABELS, NO_PASS, Swept
from fsc.goal import Goal
from fsc.report import curves_figure
from fsc.report.curves_figure import Curve
from fsc.report.interval import SMALL_TEST_SET
from fsc.sweeping import SAMPLES


def command(
    swept: Swept,
    asked: Asked,
    source: Source,
    resources: Resources,
    results: Results,
    num_seeds: int,
    methods: tuple[str, ...],
    resume: bool,
    num_test: int | None,
) -> None:
    """Compress for every value and draw by every method, and evaluate each student."""
    methods = tuple(dict.fromkeys(methods))
    swept.check(methods, joins=resume)
    given = (asked, methods, source, resources, results, num_test)
    inputs, settings = repeated.begun("sweep", *given, resume=resume)
    sample = swept.largest_sample(inputs)
    outputs.check_space(inputs, sample.num_images, settings, output=None, methods=methods)
    shared = repeated.identity(inputs, settings) | swept.identity
    comparison = Comparison(shared, results.json_path)
    if resume:
        comparison.resume()
    cases = _cases(swept, methods, num_seeds, settings)
    try:
        with Reporter() as reporter:
            said = _intention(swept, methods, num_seeds, inputs, settings.goal)
            repeated.run_all(comparison, cases, inputs, reporter, said)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(repeated.kept(comparison)) from None
    _report(comparison, methods, num_seeds, swept, inputs, settings.goal, results)


def _cases(swept: Swept, methods: Sequence[str], num_seeds: int, settings: Settings) -> list[Case]:
    """Every run; seed after seed, so that a part is a whole curve too."""
    return [
        Case(
            method,
            seed,
            swept.draw(value),
            swept.settings(value, settings),
            value,
            swept.in_words(value),
        )
        for seed in range(num_seeds)
        for value in (NO_PASS, *swept.values)
        for method in methods
        if value in swept.values_of(method)
    ]


def _draws(num_seeds: int, swept: Swept) -> str:
    count = tables.draws(num_seeds)
    return count if swept.over in SAMPLES else f"{count} of {swept.draw(1)}"


def _intention(
    swept: Swept, methods: Sequence[str], num_seeds: int, inputs: Inputs, goal: Goal
) -> str:
    values = ", ".join(f"{value:g}" for value in swept.values)
    return (
        f"Compressing {inputs.model_title}, {goal.in_words}, by {', '.join(methods)},\n"
        f"{LABELS[swept.over]} {values}: {_draws(num_seeds, swept)},\n"
        f"every student evaluated on {inputs.test_name}."
    )


def _report(
    comparison: Comparison,
    methods: Sequence[str],
    num_seeds: int,
    swept: Swept,
    inputs: Inputs,
    goal: Goal,
    results: Results,
) -> None:
    teacher, num_test = comparison.teacher, len(inputs.test_images)
    assert teacher is not None
    curves, rows = [], []
    for method in methods:
        values = swept.values_of(method)
        found = {value: _runs(comparison, method, num_seeds, value) for value in values}
        runs = {value: each for value, each in found.items() if each}
        if not runs:
            continue
        curve = _curve(method, runs)
        curves.append(curve)
        rows += _rows(curve, runs, num_test)
    if not curves:
        raise ValueError("--values must have one at which a student stays finite, got none")
    draws = _draws(num_seeds, swept)
    title = f"{inputs.model_title} on {inputs.data_title}, {goal.in_words}, {draws}"
    if results.figure_path is not None:
        curves_figure.draw(
            curves,
            results.figure_path,
            title=title,
            label=LABELS[swept.over],
            teacher_top1=teacher.top1,
            num_test=num_test,
        )
    note = sweep_table.note(inputs, teacher.top1, curves)
    tables.show(sweep_table.table(title, LABELS[swept.over], rows, note))
    tables.show_written(comparison.path, results.figure_path)


def _rows(
    curve: Curve, runs: Mapping[float, Sequence[Record]], num_test: int
) -> list[tuple[str, ...]]:
    """What the table says of one method, a row for every value."""
    seconds = tables.durations([[run.seconds for run in each] for each in runs.values()])
    rows: list[tuple[str, ...]] = []
    for value, top1, time in zip(runs, curve.top1, seconds, strict=True):
        interval = tables.interval(top1, num_test) if num_test < SMALL_TEST_SET else ""
        accuracy = tables.spread(*tables.mean_and_std(top1))
        marked = f"{'-' if curve.is_level else f'{value:g}'}{sweep_table.mark(curve, value)}"
        rows.append((curve.name, marked, accuracy, interval, time))
    return rows


def _runs(comparison: Comparison, method: str, num_seeds: int, value: float) -> list[Record]:
    found = [comparison.find(method, seed, value) for seed in range(num_seeds)]
    return [run for run in found if run is not None]


def _curve(method: str, runs: Mapping[float, Sequence[Record]]) -> Curve:
    top1 = [[run.top1 for run in each] for each in runs.values()]
    slowed = [value for value, each in runs.items() if any(run.halved for run in each)]
    ruined = [value for value, each in runs.items() if any(run.ruined for run in each)]
    return Curve(method, tuple(runs), top1, slowed, ruined, is_level=NO_PASS in runs)
