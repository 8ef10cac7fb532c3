"""`fsc tradeoff`: accuracy against measured latency, for several targets and methods."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import click

from fsc.cli import outputs, repeated, tables, timing, tradeoff_table, training_options
from fsc.cli.comparison import Comparison
from fsc.cli.comparison_file import TARGETS
from fsc.cli.drawing import Draw
from fsc.cli.given import Inputs
from fsc.cli.goals import Asked
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.record import Record
from fsc.cli.repeated import Case
from fsc.cli.sentences import as_typed
from fsc.cli.settings import Resources, Settings
from fsc.networks.latency import BATCH
from fsc.report import tradeoff_figure
from fsc.report.tradeoff_figure import Curve, Point
from fsc.scheme_tables import Style

# Each list of targets, its flag, and what a curve of them is called behind a method.
_KINDS = (
    ("flops", "--flops", "multiply-accumulates"),
    ("pruning_ratio", "--pruning-ratio", "channels"),
    ("drop_blocks", "--drop-blocks", "blocks"),
)


@dataclass(frozen=True)
class Target:
    """One thing to ask for.

    Attributes:
        kind: of target: "flops", "pruning_ratio" or "drop_blocks".
        words: as it is typed, "--flops 0.5"; runs are found again by it.
        asked: the same, with what refines it.
    """

    kind: str
    words: str
    asked: Asked


@dataclass(frozen=True)
class Targets:
    """The lists of targets, as they are typed, and what refines the shares among them.

    Attributes:
        flops: shares of the multiply-accumulates that stay.
        pruning_ratio: shares of the channels that go.
        drop_blocks: how many residual blocks go.
        ignored: names, patterns and types of layers that keep all channels that they make.
        round_to: layers keep a multiple of so many channels.
        style: which channels are pruned, all or those inside blocks.
    """

    flops: tuple[float, ...]
    pruning_ratio: tuple[float, ...]
    drop_blocks: tuple[float, ...]
    ignored: tuple[str, ...]
    round_to: int
    style: Style

    def __post_init__(self) -> None:
        """Refuses nothing to do, and what does not go together; targets refuse the rest."""
        if not (self.flops or self.pruning_ratio or self.drop_blocks):
            raise click.UsageError("Give --flops, --pruning-ratio or --drop-blocks, or several.")
        parts = [count for count in self.drop_blocks if count != int(count)]
        if parts:
            raise ValueError(f"--drop-blocks must be whole numbers, got {parts[0]:g}")
        if not (self.flops or self.pruning_ratio):
            self._check_unrefined()
        self.each()

    def _check_unrefined(self) -> None:
        """Refuses what says more of shares, where there are none."""
        for flag, value, is_given in (
            ("--ignore", self.ignored, bool(self.ignored)),
            ("--round-to", self.round_to, self.round_to != 1),
            ("--style", self.style, self.style != "residual"),
        ):
            if is_given:
                raise click.UsageError(
                    f"{flag} must go with --flops or --pruning-ratio, got "
                    f"{' '.join(as_typed({flag: value}))} with --drop-blocks alone."
                )

    def each(self) -> list[Target]:
        """All of them, one list after another."""
        return [
            self._target(kind, flag, value)
            for kind, flag, _ in _KINDS
            for value in getattr(self, kind)
        ]

    def _target(self, kind: str, flag: str, value: float) -> Target:
        # All digits: runs are found again by them.
        words = f"{flag} {int(value) if value == int(value) else value}"
        if kind == "drop_blocks":
            return Target(kind, words, Asked(drop_blocks=int(value)))
        refined: dict[str, Any] = {
            "ignored": self.ignored,
            "round_to": self.round_to,
            "style": self.style,
        }
        return Target(kind, words, Asked(**(refined | {kind: value})))

    @property
    def identity(self) -> dict[str, Any]:
        """What the targets of two files must share; which they are may differ."""
        return {
            "over": TARGETS,
            "scheme": None,
            "definition": {
                "ignored": sorted(self.ignored),
                "round_to": self.round_to,
                "style": self.style,
            },
        }


@dataclass(frozen=True)
class _Plan:
    """Which students to make."""

    targets: Sequence[Target]
    methods: Sequence[str]
    draw: Draw
    num_seeds: int

    def check(self, *, joins: bool) -> None:
        """Make sure, before anything is loaded, that all methods go with all targets.

        Args:
            joins: whether their runs join others that are there already.

        Raises:
            ValueError: one does not.
        """
        training_options.check(self.methods, joins=joins)
        for target in self.targets:
            target.asked.check_methods(self.methods)

    def cases(self, settings: Mapping[str, Settings]) -> list[Case]:
        """Every run; seed after seed, so that a part is a whole table too."""
        return [
            Case(method, seed, self.draw, settings[target.words], None, target.words, target.words)
            for seed in range(self.num_seeds)
            for target in self.targets
            for method in self.methods
        ]

    def title(self, inputs: Inputs) -> str:
        """Of the table and the figure."""
        draws = tables.draws(self.num_seeds)
        return f"{inputs.model_title} on {inputs.data_title}, {self.draw}, {draws}"

    def intention(self, inputs: Inputs) -> str:
        """What is said first."""
        targets = ", ".join(target.words for target in self.targets)
        words = tables.wrapped(f"{targets}; by {', '.join(self.methods)};")
        return f"{self.title(inputs)},\n{words}\nevery student evaluated on {inputs.test_name}."


def command(
    targets: Targets,
    draw: Draw,
    source: Source,
    resources: Resources,
    results: Results,
    num_seeds: int,
    methods: tuple[str, ...],
    resume: bool,
    num_test: int | None,
    is_compiled: bool,
) -> None:
    """Compress to every target by every method, evaluate and time each student."""
    plan = _Plan(targets.each(), tuple(dict.fromkeys(methods)), draw, num_seeds)
    plan.check(joins=resume)
    given = (plan.targets[0].asked, plan.methods, source, resources, results, num_test)
    inputs, settings = repeated.begun("tradeoff", *given, resume=resume)
    if is_compiled:
        timing.check_compiles(inputs, when_folded=True)
    # A target that does not fit fails before the others have cost anything.
    goals = {target.words: target.asked.goal(inputs) for target in plan.targets}
    sample = draw.sample(inputs, seed=0)
    outputs.check_space(inputs, sample.num_images, settings, output=None, methods=methods)
    shared = repeated.identity(inputs, settings, is_timed=True, is_compiled=is_compiled)
    shared |= targets.identity
    comparison = Comparison(shared | draw.identity, results.json_path)
    if resume:
        comparison.resume()
    cases = plan.cases({words: resources.settings(goal) for words, goal in goals.items()})
    times_of = partial(timing.times_when_folded, is_compiled=is_compiled)
    try:
        with Reporter() as reporter:
            said = plan.intention(inputs)
            repeated.run_all(comparison, cases, inputs, reporter, said, times_of=times_of)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(repeated.kept(comparison)) from None
    _report(comparison, plan, inputs, results)


def _report(comparison: Comparison, plan: _Plan, inputs: Inputs, results: Results) -> None:
    teacher = comparison.teacher
    assert teacher is not None
    about = len(inputs.test_images), comparison.identity["flops_teacher"]
    rows, curves = [], []
    for kind, _, name in _KINDS:
        of_kind = [target.words for target in plan.targets if target.kind == kind]
        for method in plan.methods if of_kind else ():
            runs = {words: _runs(comparison, method, plan.num_seeds, words) for words in of_kind}
            found = {words: each for words, each in runs.items() if each}
            rows += [tradeoff_table.row(words, each, *about) for words, each in found.items()]
            curves += [Curve(method, name, _points(found))] if found else []
    if not curves:
        raise ValueError("--method must have one whose students stay finite, got none")
    title = plan.title(inputs)
    if results.figure_path is not None:
        tradeoff_figure.draw(
            curves,
            results.figure_path,
            title=title,
            batch=BATCH,
            compiled=bool(comparison.identity["compiled"]),
            teacher_top1=teacher.top1,
            num_test=len(inputs.test_images),
        )
    tables.show(tradeoff_table.table(title, rows, inputs, comparison))
    tables.show_written(comparison.path, results.figure_path)


def _runs(comparison: Comparison, method: str, num_seeds: int, words: str) -> list[Record]:
    found = [comparison.find(method, seed, target=words) for seed in range(num_seeds)]
    return [run for run in found if run is not None]


def _points(found: Mapping[str, Sequence[Record]]) -> list[Point]:
    """The students of one method, those that take the longest first."""
    points = [
        Point(
            words.split()[-1],
            [run.top1 for run in runs],
            (
                statistics.fmean(run.share_of_time(0) for run in runs),
                statistics.fmean(run.share_of_time(1) for run in runs),
            ),
        )  # fmt: skip
        for words, runs in found.items()
    ]
    return sorted(points, key=lambda point: -point.time[0])
