"""`fsc tradeoff`: accuracy against measured latency, for several targets and methods."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from fsc.cli import evaluation, outputs, repeated, tables, tradeoff_table, training_options
from fsc.cli.comparison import TARGETS, Comparison, Record
from fsc.cli.drawing import Draw
from fsc.cli.given import Inputs
from fsc.cli.goals import Asked
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.repeated import Case
from fsc.cli.run import Resources
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
        ignored: names, patterns and types of layers that stay whole.
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
        """Refuses nothing to do, and what is no number of blocks; targets refuse the rest."""
        if not (self.flops or self.pruning_ratio or self.drop_blocks):
            raise click.UsageError("Give --flops, --pruning-ratio or --drop-blocks, or several.")
        parts = [count for count in self.drop_blocks if count != int(count)]
        if parts:
            raise ValueError(f"--drop-blocks must be whole numbers, got {parts[0]:g}")
        self.each()

    def each(self) -> list[Target]:
        """All of them, one list after another."""
        return [
            Target(kind, f"{flag} {value:g}", self._asked(kind, value))
            for kind, flag, _ in _KINDS
            for value in getattr(self, kind)
        ]

    def _asked(self, kind: str, value: float) -> Asked:
        given: dict[str, Any] = dict.fromkeys(
            ("scheme_name", "flops", "parameters", "pruning_ratio", "drop_blocks", "decouple")
        )
        if kind == "drop_blocks":
            whole: dict[str, Any] = {"ignored": (), "round_to": 1, "style": "residual"}
            return Asked(**(given | {kind: int(value)} | whole))
        refined = {"ignored": self.ignored, "round_to": self.round_to, "style": self.style}
        return Asked(**(given | {kind: value} | refined))

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
) -> None:
    """Compress to every target by every method, evaluate and time each student."""
    methods = tuple(dict.fromkeys(methods))
    training_options.check(methods)
    wanted = targets.each()
    for target in wanted:
        target.asked.check_methods(methods)
    given = (wanted[0].asked, methods, source, resources, results, num_test)
    inputs, settings = repeated.begun("tradeoff", *given, resume=resume)
    # A target that does not fit fails before the others have cost anything.
    goals = {target.words: target.asked.goal(inputs) for target in wanted}
    sample = draw.sample(inputs, seed=0)
    outputs.check_space(inputs, sample.num_images, settings, output=None, methods=methods)
    shared = repeated.identity(inputs, settings, is_timed=True) | targets.identity
    comparison = Comparison(shared | draw.identity, results.json_path)
    if resume:
        comparison.resume()
    cases = [
        Case(method, seed, draw, resources.settings(goal), said=words, target=words)
        for seed in range(num_seeds)
        for words, goal in goals.items()
        for method in methods
    ]
    title = f"{inputs.model_title} on {inputs.data_title}, {draw}, {tables.draws(num_seeds)}"
    try:
        with Reporter() as reporter:
            repeated.run_all(
                comparison, cases, inputs, reporter, _intention(title, wanted, methods, inputs),
                timing=evaluation.times_when_folded,
            )  # fmt: skip
    except KeyboardInterrupt:
        raise KeyboardInterrupt(repeated.kept(comparison)) from None
    _report(comparison, wanted, methods, num_seeds, inputs, title, results)


def _intention(title: str, wanted: Sequence[Target], methods: Sequence[str], inputs: Inputs) -> str:
    words = f"{', '.join(target.words for target in wanted)}; by {', '.join(methods)};"
    return f"{title},\n{tables.wrapped(words)}\nevery student evaluated on {inputs.test_name}."


def _report(
    comparison: Comparison,
    wanted: Sequence[Target],
    methods: Sequence[str],
    num_seeds: int,
    inputs: Inputs,
    title: str,
    results: Results,
) -> None:
    teacher = comparison.teacher
    assert teacher is not None
    rows, curves = [], []
    for kind, _, name in _KINDS:
        of_kind = [target.words for target in wanted if target.kind == kind]
        for method in methods if of_kind else ():
            found = {words: _runs(comparison, method, num_seeds, words) for words in of_kind}
            rows += [tradeoff_table.row(words, runs, inputs) for words, runs in found.items()]
            curves.append(Curve(f"{method}, {name}", _points(found)))
    if results.figure_path is not None:
        tradeoff_figure.draw(
            curves,
            results.figure_path,
            title=title,
            batch=evaluation.BATCH,
            teacher_top1=teacher.top1,
            num_test=len(inputs.test_images),
        )
    tables.show(tradeoff_table.table(title, rows, inputs, teacher.top1, comparison.records))
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
