"""`fsc compare`: several methods over several seeds, beside the papers' numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch

from fsc import method_names
from fsc.cli import evaluation, options, outputs, published, tables
from fsc.cli.comparison import Comparison, Record
from fsc.cli.drawing import Draw
from fsc.cli.given import Inputs
from fsc.cli.goals import Asked
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.run import Resources, Settings, check_labels, execute
from fsc.goal import Goal
from fsc.images.checks import device_of
from fsc.methods.identity import versions
from fsc.methods.journal import fingerprint
from fsc.networks import cost
from fsc.report import methods_figure
from fsc.report.interval import SMALL_TEST_SET


@dataclass(frozen=True)
class _Plan:
    """Which runs to make."""

    methods: Sequence[str]
    draw: Draw
    num_seeds: int
    is_timed: bool

    @property
    def draws(self) -> str:
        """The number of seeds in words."""
        return "1 draw" if self.num_seeds == 1 else f"{self.num_seeds} draws"

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Method and seed of every run; seed after seed, so that a part is a fair table too."""
        return [(method, seed) for seed in range(self.num_seeds) for method in self.methods]


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
) -> None:
    """Compare methods: accuracy over several draws, time and size, beside the papers' numbers."""
    if resume and results.json_path is None:
        raise click.UsageError("--resume needs --json, the file to take up.")
    options.check_training(methods)
    asked.check_methods(methods)
    plan = _Plan(list(dict.fromkeys(methods)), draw, num_seeds, is_timed)
    replace(results, overwrite=results.overwrite or resume).hold()
    inputs = source.load()
    inputs.check_evaluable("fsc compare")
    inputs = inputs.evaluated_on(num_test)
    inputs.check_scores()
    check_labels(methods, inputs, resources.augment)
    goal = asked.goal(inputs)
    # The first draw fails as every draw would; the other seeds change which images, not how many.
    sample = draw.sample(inputs, seed=0)
    settings = resources.settings(goal)
    outputs.check_space(inputs, sample.num_images, settings, output=None)
    comparison = Comparison(_identity(inputs, settings, plan), results.json_path)
    if resume:
        comparison.resume()
    try:
        with Reporter() as reporter:
            _run_all(comparison, plan, inputs, settings, reporter)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept(comparison)) from None
    _report(comparison, plan, inputs, goal, results.figure_path)


def _identity(inputs: Inputs, settings: Settings, plan: _Plan) -> dict[str, Any]:
    """What two comparisons must share for their runs to stand in one table."""
    draw = plan.draw
    return {
        "model": inputs.model_name,
        "data": inputs.data_name,
        "scheme": settings.goal.name,
        "shots": draw.num_shots,
        "ways": draw.num_ways,
        "images": draw.num_images,
        "preparation": None if inputs.preparation is None else str(inputs.preparation),
        "test_images": len(inputs.test_images),
        "definition": settings.goal.definition(),
        "mir_steps": settings.mir_steps,
        "augment": settings.augment,
        "views": settings.views,
        "weights_teacher": fingerprint(inputs.teacher.state_dict().values()),
        "parameters_teacher": cost.parameters(inputs.teacher),
        "flops_teacher": cost.flops(inputs.teacher, inputs.example),
        "device": device_of(inputs.teacher, inputs.example).type,
        "threads": torch.get_num_threads(),
        "latency": plan.is_timed,
        "versions": versions(),
    }


def _run_all(
    comparison: Comparison, plan: _Plan, inputs: Inputs, settings: Settings, reporter: Reporter
) -> None:
    missing = [pair for pair in plan.pairs if comparison.find(*pair) is None]
    done = len(plan.pairs) - len(missing)
    for line in inputs.notes:
        reporter.say(line)
    reporter.say(
        f"Comparing {', '.join(plan.methods)} on {inputs.model_title}, "
        f"{settings.goal.in_words}: {plan.draws} of {plan.draw},\n"
        f"every student evaluated on {inputs.test_name}."
        + (f" {done} runs are there already." if done else "")
    )
    if comparison.teacher is None:
        comparison.teacher = evaluation.teacher_accuracy(inputs, reporter)
    reporter.say(f"  {'teacher':<15}           {comparison.teacher.top1:6.2f} %")
    for index, (method, seed) in enumerate(missing, start=done + 1):
        record = _run_one(comparison, method, seed, plan, inputs, settings, reporter)
        comparison.add(record)
        reporter.say(
            f"  {method:<15}  seed {seed:<3} {record.top1:6.2f} %  {record.seconds:6.1f} s"
            f"   {index} of {len(plan.pairs)}"
        )


def _run_one(
    comparison: Comparison,
    method: str,
    seed: int,
    plan: _Plan,
    inputs: Inputs,
    settings: Settings,
    reporter: Reporter,
) -> Record:
    sample = plan.draw.sample(inputs, seed)
    # Without data every draw gives the same student: one evaluation serves all of them.
    earlier = comparison.of(method) if method == method_names.DATA_FREE else []
    known = earlier[0].accuracy if earlier else None
    run = execute(method, inputs, sample, settings, reporter, known)
    times = evaluation.times(inputs, run.student, reporter) if plan.is_timed else None
    report = run.report
    return Record(
        method,
        report.scheme,
        plan.draw.num_shots,
        seed,
        run.accuracy.top1,
        report.seconds,
        report.parameters,
        report.nonzero,
        report.flops,
        run.accuracy.top5,
        *((None, None) if times is None else (list(times.student), list(times.teacher))),
    )


def _kept(comparison: Comparison) -> str:
    """What an interrupted comparison leaves behind, in words."""
    count = len(comparison.records)
    if comparison.path is None or not count:
        return "nothing was written"
    return f"{count} runs are in {comparison.path}; go on with --resume"


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
    note = _note(inputs, has_paper, few, plan.is_timed)
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
    views = ", trained on crops" if identity["views"] == "crops" else ""
    return (
        f"{inputs.model_title} on {inputs.data_title}, {goal.in_words}, "
        f"{plan.draw}, {plan.draws}{augment}{views}"
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
    )


def _note(inputs: Inputs, has_paper: bool, few: bool, is_timed: bool) -> str:
    note = tables.wrapped(
        f"top-1 on {inputs.test_name}, mean ± standard deviation over draws",
        *([tables.INTERVAL_NOTE] if few else []),
        *([evaluation.TIMES_NOTE] if is_timed else []),
        f"seconds: mean time to compress; {tables.FLOPS_NOTE}",
    )
    return f"{note}\n{published.SOURCES}" if has_paper else note
