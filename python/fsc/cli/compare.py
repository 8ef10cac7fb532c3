"""`fsc compare`: several methods over several seeds, beside the papers' numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from fsc.cli import outputs, published, repeated, tables, timing, training_options
from fsc.cli.comparison import Comparison
from fsc.cli.drawing import Draw
from fsc.cli.given import Inputs
from fsc.cli.goals import Asked
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.record import Record
from fsc.cli.repeated import Case
from fsc.cli.settings import Resources, Settings
from fsc.goal import Goal
from fsc.networks import cost
from fsc.report import methods_figure
from fsc.report.interval import SMALL_TEST_SET

# Of the views that are not the papers' for CIFAR-10 -> what is said of them.
_VIEWS = {"crops": ", trained on crops", "original-crops": ", trained on crops of the files"}


@dataclass(frozen=True)
class _Plan:
    """Which runs to make."""

    methods: Sequence[str]
    draw: Draw
    num_seeds: int
    is_timed: bool
    is_compiled: bool

    @property
    def draws(self) -> str:
        """The number of seeds in words."""
        return tables.draws(self.num_seeds)

    def cases(self, settings: Settings) -> list[Case]:
        """Every run; seed after seed, so that a part is a fair table too."""
        return [
            Case(method, seed, self.draw, settings)
            for seed in range(self.num_seeds)
            for method in self.methods
        ]


def command(
    draw: Draw,
    asked: Asked,
    source: Source,
    resources: Resources,
    results: Results,
    num_seeds: int,
    methods: tuple[str, ...],
    resume: bool,
    num_test: int | None,
    is_timed: bool,
    is_compiled: bool,
) -> None:
    """Compare methods: accuracy over several draws, time and size, beside the papers' numbers."""
    training_options.check(methods, joins=resume)
    several = list(dict.fromkeys(methods))
    plan = _Plan(several, draw, num_seeds, is_timed or is_compiled, is_compiled)
    given = (asked, plan.methods, source, resources, results, num_test)
    inputs, settings = repeated.begun("compare", *given, resume=resume)
    if is_compiled:
        timing.check_compiles(inputs)
    # The first draw fails as every draw would; the other seeds change which images, not how many.
    sample = draw.sample(inputs, seed=0)
    outputs.check_space(inputs, sample.num_images, settings, output=None, methods=methods)
    comparison = Comparison(_identity(inputs, settings, plan), results.json_path)
    if resume:
        comparison.resume()
    try:
        with Reporter() as reporter:
            cases = plan.cases(settings)
            said = _intention(plan, inputs, settings.goal)
            times_of = partial(timing.times, is_compiled=is_compiled) if plan.is_timed else None
            repeated.run_all(comparison, cases, inputs, reporter, said, times_of=times_of)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(repeated.kept(comparison)) from None
    _report(comparison, plan, inputs, settings.goal, results.figure_path)


def _identity(inputs: Inputs, settings: Settings, plan: _Plan) -> dict[str, Any]:
    """What two comparisons must share for their runs to stand in one table."""
    shared = repeated.identity(
        inputs, settings, is_timed=plan.is_timed, is_compiled=plan.is_compiled
    )
    # A file of `fsc sweep` is none of a comparison.
    return shared | plan.draw.identity | {"over": None}


def _intention(plan: _Plan, inputs: Inputs, goal: Goal) -> str:
    return (
        f"Comparing {', '.join(plan.methods)} on {inputs.model_title}, {goal.in_words}: "
        f"{plan.draws} of {plan.draw},\nevery student evaluated on {inputs.test_name}."
    )


def _report(
    comparison: Comparison, plan: _Plan, inputs: Inputs, goal: Goal, figure_path: Path | None
) -> None:
    identity, teacher = comparison.identity, comparison.teacher
    assert teacher is not None
    size = cost.size(inputs.teacher, inputs.example)
    few = len(inputs.test_images) < SMALL_TEST_SET
    num_test = len(inputs.test_images) if few else None
    top5 = [] if teacher.top5 is None else [teacher.top5]
    first = tables.Row("teacher", [teacher.top1], [], size, num_test=num_test, top5=top5)
    rows = [_timed(first, [run.milliseconds_teacher for run in comparison.records])]
    points = []
    for method in plan.methods:
        records = comparison.of(method, range(plan.num_seeds))
        paper = _published(method, inputs, identity)
        row = replace(_row(method, records, paper), num_test=num_test)
        rows.append(row)
        mean, std = tables.mean_and_std(row.top1)
        seconds = statistics.fmean(row.seconds)
        points.append(
            methods_figure.Point(method, mean, std, seconds, paper.mean if paper else None)
        )
    stays = tables.what_stays(identity["scheme"], inputs.known_as, size, rows[-1].size)
    title = _title(inputs, identity, plan, goal)
    has_paper = any(row.published for row in rows)
    note = _note(inputs, has_paper, few, plan)
    if figure_path is not None:
        methods_figure.draw(
            points,
            figure_path,
            title=title,
            subtitle="\n".join(stays),
            teacher_top1=teacher.top1,
            num_test=len(inputs.test_images),
        )
    tables.show(tables.networks(title, rows, f"{tables.wrapped(*stays)}\n{note}"))
    tables.show_written(comparison.path, figure_path)


def _title(inputs: Inputs, identity: dict[str, Any], plan: _Plan, goal: Goal) -> str:
    augment = f", augmented by {identity['augment']}" if identity["augment"] else ""
    views = _VIEWS.get(identity["views"], "")
    kept = ", BatchNorm kept" if identity["keep_batch_norm"] else ""
    return (
        f"{inputs.model_title} on {inputs.data_title}, {goal.in_words}, "
        f"{plan.draw}, {plan.draws}{augment}{views}{kept}"
    )


def _row(method: str, records: Sequence[Record], paper: published.Published | None) -> tables.Row:
    row = tables.Row(
        method,
        [record.top1 for record in records],
        [record.seconds for record in records],
        cost.Size(records[0].parameters, records[0].nonzero, records[0].flops),
        tables.spread(paper.mean, paper.std) if paper else "",
        top5=[record.top5 for record in records if record.top5 is not None],
    )
    return _timed(row, [record.milliseconds for record in records])


def _timed(row: tables.Row, times: Sequence[Sequence[float] | None]) -> tables.Row:
    """A row with its mean times for one image and for a batch, where they were measured."""
    measured = [each for each in times if each is not None]
    if not measured:
        return row
    alone, batch = (statistics.fmean(each) for each in zip(*measured, strict=True))
    return replace(row, milliseconds=alone, milliseconds_batch=batch)


def _published(method: str, inputs: Inputs, identity: dict[str, Any]) -> published.Published | None:
    if identity["shots"] is None or identity["ways"] is not None:
        return None
    return published.lookup(
        method,
        model_name=inputs.model_name,
        data_name=inputs.data_name,
        scheme=identity["scheme"],
        num_shots=identity["shots"],
        augment=identity["augment"],
    )


def _note(inputs: Inputs, has_paper: bool, few: bool, plan: _Plan) -> str:
    note = tables.wrapped(
        f"top-1 on {inputs.test_name}, mean ± standard deviation over draws",
        *([tables.INTERVAL_NOTE] if few else []),
        *([timing.note(plan.is_compiled)] if plan.is_timed else []),
        f"seconds: mean time to compress; {tables.FLOPS_NOTE}",
    )
    return f"{note}\n{published.SOURCES}" if has_paper else note
