"""What `compare`, `sweep` and `tradeoff` share: many runs, each kept in a file as it ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
import torch
from torch import nn

from fsc import method_names
from fsc.cli import evaluation, timing
from fsc.cli.comparison import Comparison
from fsc.cli.drawing import Draw
from fsc.cli.given import Inputs
from fsc.cli.goals import Asked, check_kinds
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.record import Record
from fsc.cli.run import Accuracy, Run, check_labels, execute
from fsc.cli.settings import Resources, Settings
from fsc.images.checks import device_of
from fsc.methods.identity import versions
from fsc.methods.journal import fingerprint
from fsc.methods.schedule import NeverFinite
from fsc.methods.soundness import is_sound
from fsc.networks import cost
from fsc.report.interval import wilson

# What measures a student beside its teacher.
TimesOf = Callable[[Inputs, nn.Module, Reporter], timing.Times]


@dataclass(frozen=True)
class Case:
    """One student that is to be made.

    Attributes:
        method: its name.
        seed: of the draw and of the method.
        draw: of the few images.
        settings: goal and resources.
        value: of what is swept; None where nothing is.
        said: the value or target in words, for a line with the result.
        target: what is asked for, as it was typed; None where all runs are for the same.
    """

    method: str
    seed: int
    draw: Draw
    settings: Settings
    value: float | None = None
    said: str = ""
    target: str | None = None


def begun(
    verb: str,
    asked: Asked,
    methods: Sequence[str],
    source: Source,
    resources: Resources,
    results: Results,
    num_test: int | None,
    resume: bool,
) -> tuple[Inputs, Settings]:
    """Read everything, once it is known that the methods go with what is asked for.

    Args:
        verb: who asks, for the sentence.
        asked: what is to be left of the teacher.
        methods: by name.
        source: of teacher and images.
        resources: that the methods may take.
        results: where they go.
        num_test: how many test images at most.
        resume: whether runs that are there already are kept.

    Raises:
        ValueError: accuracies cannot be measured, or something does not fit.
        OSError, ImportError: what `Source.load` raises.
    """
    if resume and results.json_path is None:
        raise click.UsageError("--resume needs --json, the file to take up.")
    asked.check_methods(methods)
    replace(results, overwrite=results.overwrite or resume).hold()
    inputs = source.load()
    inputs.check_evaluable(f"fsc {verb}")
    inputs = inputs.evaluated_on(num_test)
    inputs.check_scores()
    check_labels(methods, inputs, resources.augment, resources.views)
    goal = asked.goal(inputs)
    check_kinds(methods, goal)
    return inputs, resources.settings(goal)


def identity(
    inputs: Inputs, settings: Settings, *, is_timed: bool = False, is_compiled: bool = False
) -> dict[str, Any]:
    """What all runs must share to stand in one table, beside how their images are drawn."""
    return {
        "model": inputs.model_name,
        "data": inputs.data_name,
        "scheme": settings.goal.name,
        "preparation": None if inputs.preparation is None else str(inputs.preparation),
        "test_images": len(inputs.test_images),
        # Files that say nothing of it have all, or the first ones.
        "test_part": None if inputs.has_whole_test else "evenly spaced",
        "definition": settings.goal.definition(),
        "mir_steps": settings.mir_steps,
        "default_steps": settings.default_steps,
        # None as in files that say nothing of it.
        "precision": None if settings.precision == "float32" else settings.precision,
        "keep_batch_norm": settings.keep_batch_norm or None,
        "augment": None if settings.augment is None else str(settings.augment),
        "views": settings.views,
        "weights_teacher": fingerprint(inputs.teacher.state_dict().values()),
        "parameters_teacher": cost.parameters(inputs.teacher),
        "flops_teacher": cost.flops(inputs.teacher, inputs.example),
        "device": device_of(inputs.teacher, inputs.example).type,
        "threads": torch.get_num_threads(),
        "latency": is_timed,
        "compiled": is_compiled or None,  # None as in files that say nothing of it
        "versions": versions(),
    }


def run_all(
    comparison: Comparison,
    cases: Sequence[Case],
    inputs: Inputs,
    reporter: Reporter,
    intention: str,
    *,
    times_of: TimesOf | None = None,
) -> None:
    """Make every student that is not there yet, and keep what was measured of it.

    Args:
        comparison: where runs are kept, and those that are there already.
        cases: all students, in the order in which they are made.
        inputs: teacher and images.
        reporter: told of the progress.
        intention: what is said first.
        times_of: measures milliseconds; None: nothing does.
    """
    missing = [c for c in cases if comparison.find(c.method, c.seed, c.value, c.target) is None]
    done = len(cases) - len(missing)
    for line in inputs.notes:
        reporter.say(line)
    there = f"\n{_counted(done)} there already." if done else ""
    reporter.say(intention + there)
    if comparison.teacher is None:
        comparison.teacher = evaluation.teacher_accuracy(inputs, reporter)
    width = max((len(case.said) for case in cases), default=0)
    blank = f"  {'':<{width}}" if width else ""
    reporter.say(f"  {'teacher':<15}{blank}           {comparison.teacher.top1:6.2f} %")
    for index, case in enumerate(missing, start=done + 1):
        said = f"  {case.said:<{width}}" if width else ""
        try:
            record = _run_one(comparison, case, inputs, reporter, times_of)
        except NeverFinite as error:
            if case.value is None and case.target is None:
                raise
            # The other values, or targets, are worth having.
            reporter.say(f"  {case.method:<15}{said}  seed {case.seed:<3} left out: {error}")
            continue
        comparison.add(record)
        reporter.say(
            f"  {case.method:<15}{said}  seed {case.seed:<3} {record.top1:6.2f} %  "
            f"{record.seconds:6.1f} s   {index} of {len(cases)}"
        )


def _run_one(
    comparison: Comparison,
    case: Case,
    inputs: Inputs,
    reporter: Reporter,
    times_of: TimesOf | None,
) -> Record:
    sample = case.draw.sample(inputs, case.seed)
    known = _known(comparison, case)
    run = execute(case.method, inputs, sample, case.settings, reporter, known)
    times = None if times_of is None else times_of(inputs, run.student, reporter)
    report = run.report
    record = Record(
        case.method,
        report.scheme,
        case.draw.num_shots,
        case.seed,
        run.accuracy.top1,
        report.seconds,
        report.parameters,
        report.nonzero,
        report.flops,
        run.accuracy.top5,
        None if times is None else list(times.student),
        None if times is None else list(times.teacher),
        None if times is None else [list(each) for each in times.shares],
        target=case.target,
    )
    is_alone = case.value is None and case.target is None
    return record if is_alone else _swept(record, case.value, run, inputs)


def _known(comparison: Comparison, case: Case) -> Accuracy | None:
    """The accuracy of the same student: without data one evaluation serves all draws."""
    if case.method != method_names.DATA_FREE or not case.settings.goal.is_data_free:
        return None
    earlier = [run for run in comparison.of(case.method) if run.target == case.target]
    return earlier[0].accuracy if earlier else None


def _swept(record: Record, value: float | None, run: Run, inputs: Inputs) -> Record:
    """A record of several values or targets, with what went wrong."""
    rates = run.report.learning_rates
    return replace(
        record,
        value=value,
        learning_rate=rates[-1] if rates else None,
        halved=len(rates) > 1,
        ruined=_is_ruined(run, inputs),
    )


def _is_ruined(run: Run, inputs: Inputs) -> bool:
    """Whether a student is no better than a constant answer, or has gone away from the teacher.

    Labels may well lead away from a teacher: where some were learned only the answers count.
    """
    commonest = 100 * float(inputs.test_labels.bincount().max()) / len(inputs.test_labels)
    if run.accuracy.top1 <= wilson(commonest, len(inputs.test_labels))[1]:
        return True
    report = run.report
    has_labels = run.method in method_names.WITH_LABELS and bool(run.sample.labels)
    start = math.inf if report.distance_start is None else report.distance_start
    return not has_labels and not is_sound(report.distance, start)


def kept(comparison: Comparison) -> str:
    """What an interruption leaves behind, in words."""
    count = len(comparison.records)
    if comparison.path is None or not count:
        return "nothing was written"
    return f"{_counted(count)} in {comparison.path}; go on with --resume"


def _counted(count: int) -> str:
    return "1 run is" if count == 1 else f"{count} runs are"
