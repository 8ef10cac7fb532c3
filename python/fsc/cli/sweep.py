"""`fsc sweep`: accuracy against steps, learning rate or number of images (MiR, Fig. 2 and 3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
from click.core import ParameterSource

from fsc import method_names
from fsc.cli import outputs, repeated, sweep_table, tables, training_options
from fsc.cli.comparison import Comparison, Record
from fsc.cli.drawing import Draw
from fsc.cli.given import Inputs
from fsc.cli.goals import Asked
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.repeated import Case
from fsc.cli.run import Resources, Settings
from fsc.goal import Goal
from fsc.images.sampling import FewShotSample
from fsc.report import curves_figure
from fsc.report.curves_figure import Curve
from fsc.report.interval import SMALL_TEST_SET
from fsc.sweeping import SAMPLES, settings_of

# What --over may be that is no number of images -> the hyper-parameter of methods.
_SETTINGS = {"steps": "steps", "rate": "learning_rate"}
_LABELS = {
    "steps": "steps",
    "rate": "learning rate",
    "shots": "images a class",
    "images": "images",
}
# What the functions that draw call the number of images.
_NUMBER = re.compile(r"^(\w+: )?num_(shots|images)\b")


@dataclass(frozen=True)
class Swept:
    """What is swept, and what the few images are where their number is not.

    Attributes:
        over: "steps", "rate", "shots" or "images".
        values: that it takes, increasing.
        num_shots: images a class, as typed.
        num_images: images in all, as typed.
        num_ways: classes that are drawn first, as typed.
    """

    over: str
    values: tuple[float, ...]
    num_shots: int | None
    num_images: int | None
    num_ways: int | None

    def __post_init__(self) -> None:
        """Refuses numbers of steps or images that are not whole, and images given twice."""
        parts = [value for value in self.values if value != int(value)]
        if self.over != "rate" and parts:
            raise ValueError(
                f"--values must be whole numbers for --over {self.over}, got {parts[0]:g}"
            )
        if self.over not in SAMPLES:
            Draw(self.num_shots, self.num_images, self.num_ways)
            return
        if self.over == "images" and self.num_ways is not None:
            raise click.UsageError(
                f"--ways must be left out with --over images, which are of any class, got "
                f"{self.num_ways}."
            )
        for flag, number in (("--shots", self.num_shots), ("--images", self.num_images)):
            if number is not None:
                raise click.UsageError(
                    f"{flag} must be left out with --over {self.over}, whose --values say it, got "
                    f"{number}."
                )

    def check(self, methods: Sequence[str]) -> None:
        """Make sure, before anything is loaded, that all methods have what is swept.

        Raises:
            ValueError: one has not, or steps are given twice.
        """
        if self.over == "steps" and _is_typed("mir_steps"):
            raise ValueError(
                "--mir-steps must be left out with --over steps, whose --values it is, got "
                f"{click.get_current_context().params['mir_steps']}"
            )
        training_options.check(methods)
        setting = _SETTINGS.get(self.over)
        others = [name for name in methods if setting and not _has(name, setting)]
        if others:
            able = ", ".join(name for name in method_names.NAMES if _has(name, str(setting)))
            raise ValueError(
                f"--method must have what is swept with --over {self.over}, one of {able}, got "
                f"{', '.join(others)}"
            )

    def draw(self, value: float) -> Draw:
        """The few images at a value."""
        if self.over == "shots":
            return Draw(int(value), None, self.num_ways)
        if self.over == "images":
            return Draw(None, int(value), self.num_ways)
        return Draw(self.num_shots, self.num_images, self.num_ways)

    def largest_sample(self, inputs: Inputs) -> FewShotSample:
        """The draw that fails where any would: other seeds change which images, not how many.

        Raises:
            ValueError: there are fewer images than that, or none of them has a class.
        """
        if self.over == "shots" and not inputs.train.classes:
            raise ValueError(
                f"--over must be images where images have no classes, as in {inputs.data_title}, "
                "got shots"
            )
        try:
            return self.draw(self.values[-1]).sample(inputs, seed=0)
        except ValueError as error:
            if self.over not in SAMPLES:
                raise
            raise ValueError(_NUMBER.sub("--values", str(error))) from error

    def settings(self, value: float, settings: Settings) -> Settings:
        """The settings at a value."""
        if self.over == "steps":
            return replace(settings, mir_steps=int(value), default_steps=int(value))
        return replace(settings, learning_rate=value) if self.over == "rate" else settings

    def in_words(self, value: float) -> str:
        """A value with what it is."""
        return f"{_LABELS[self.over]} {value:g}"

    @property
    def identity(self) -> dict[str, Any]:
        """What two sweeps must share, beside what two comparisons must."""
        typed = {"shots": self.num_shots, "ways": self.num_ways, "images": self.num_images}
        return {"over": self.over} | typed | ({"mir_steps": None} if self.over == "steps" else {})


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
    swept.check(methods)
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
    _report(comparison, cases, swept, inputs, settings.goal, results)


def _is_typed(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def _has(method: str, setting: str) -> bool:
    if setting == "steps":
        return method in method_names.WITH_STEPS
    return setting in settings_of(method_names.named(method))


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
        for value in swept.values
        for method in methods
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
        f"{_LABELS[swept.over]} {values}: {_draws(num_seeds, swept)},\n"
        f"every student evaluated on {inputs.test_name}."
    )


def _report(
    comparison: Comparison,
    cases: Sequence[Case],
    swept: Swept,
    inputs: Inputs,
    goal: Goal,
    results: Results,
) -> None:
    teacher, num_test = comparison.teacher, len(inputs.test_images)
    assert teacher is not None
    num_seeds = 1 + max(case.seed for case in cases)
    curves, rows = [], []
    for method in dict.fromkeys(case.method for case in cases):
        found = {value: _runs(comparison, method, num_seeds, value) for value in swept.values}
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
            label=_LABELS[swept.over],
            teacher_top1=teacher.top1,
            num_test=num_test,
        )
    note = sweep_table.note(inputs, teacher.top1, curves)
    tables.show(sweep_table.table(title, _LABELS[swept.over], rows, note))
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
        marked = f"{value:g}{sweep_table.mark(curve, value)}"
        rows.append((curve.name, marked, accuracy, interval, time))
    return rows


def _runs(comparison: Comparison, method: str, num_seeds: int, value: float) -> list[Record]:
    found = [comparison.find(method, seed, value) for seed in range(num_seeds)]
    return [run for run in found if run is not None]


def _curve(method: str, runs: Mapping[float, Sequence[Record]]) -> Curve:
    top1 = [[run.top1 for run in each] for each in runs.values()]
    slowed = [value for value, each in runs.items() if any(run.halved for run in each)]
    ruined = [value for value, each in runs.items() if any(run.ruined for run in each)]
    return Curve(method, tuple(runs), top1, slowed, ruined)
