"""`fsc compare`: several methods over several seeds, beside the papers' numbers."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click
import torch

from fsc import method_names, schemes
from fsc.cli import evaluation, inputs as cli_inputs, options, outputs, published, tables
from fsc.cli.comparison import Comparison, Record
from fsc.cli.inputs import Inputs
from fsc.cli.progress import Reporter
from fsc.cli.run import Settings, execute
from fsc.compression import versions
from fsc.images import sampling
from fsc.images.checks import device_of
from fsc.images.sampling import FewShotSample
from fsc.methods.journal import fingerprint
from fsc.networks import cost
from fsc.report import methods_figure
from fsc.report.interval import SMALL_TEST_SET


@dataclass(frozen=True)
class _Plan:
    """Which runs to make."""

    methods: Sequence[str]
    num_shots: int
    num_seeds: int

    @property
    def draws(self) -> str:
        """The number of seeds in words."""
        return "1 draw" if self.num_seeds == 1 else f"{self.num_seeds} draws"

    @property
    def pairs(self) -> list[tuple[str, int]]:
        """Method and seed of every run; seed after seed, so that a part is a fair table too."""
        return [(method, seed) for seed in range(self.num_seeds) for method in self.methods]


def command(
    model_name: str,
    data_name: str,
    scheme_name: str,
    num_shots: int,
    num_seeds: int,
    methods: tuple[str, ...],
    json_path: Path | None,
    resume: bool,
    figure_path: Path | None,
    overwrite: bool,
    checkpoint_path: Path | None,
    data_root: Path | None,
    mir_steps: int,
    augment: str | None,
    batch_size: int,
    memory_budget: float | None,
    device: torch.device,
    num_test: int | None,
) -> None:
    """Compare methods: accuracy over several draws, time and size, beside the papers' numbers."""
    if resume and json_path is None:
        raise click.UsageError("--resume needs --json, the file to take up.")
    options.check_mir_steps(methods)
    options.check_outputs(json_path, figure_path, replacing=overwrite or resume)
    plan = _Plan(list(dict.fromkeys(methods)), num_shots, num_seeds)
    scheme = cli_inputs.find_scheme(scheme_name, model_name)
    inputs = cli_inputs.load(model_name, data_name, data_root, checkpoint_path, device)
    inputs = inputs.evaluated_on(num_test)
    schemes.check(scheme, inputs.teacher, inputs.test_images[:1])
    # The first draw fails as every draw would; the other seeds change which images, not how many.
    sample = _draw(inputs, num_shots, seed=0)
    settings = Settings(scheme, mir_steps, batch_size, options.to_bytes(memory_budget), augment)
    outputs.check_space(inputs, sample.num_images, settings, output=None)
    comparison = Comparison(_identity(inputs, settings, num_shots), json_path)
    if resume:
        comparison.resume()
    try:
        with Reporter() as reporter:
            _run_all(comparison, plan, inputs, settings, reporter)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept(comparison)) from None
    _report(comparison, plan, inputs, figure_path)


def _identity(inputs: Inputs, settings: Settings, num_shots: int) -> dict[str, Any]:
    """What two comparisons must share for their runs to stand in one table."""
    return {
        "model": inputs.model_name,
        "data": inputs.data_name,
        "scheme": settings.scheme.name,
        "shots": num_shots,
        "test_images": len(inputs.test_images),
        "definition": asdict(settings.scheme),
        "mir_steps": settings.mir_steps,
        "augment": settings.augment,
        "weights_teacher": fingerprint(inputs.teacher.state_dict().values()),
        "parameters_teacher": cost.parameters(inputs.teacher),
        "flops_teacher": cost.flops(inputs.teacher, inputs.test_images[:1]),
        "device": device_of(inputs.teacher, inputs.test_images).type,
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


def _run_all(
    comparison: Comparison, plan: _Plan, inputs: Inputs, settings: Settings, reporter: Reporter
) -> None:
    missing = [pair for pair in plan.pairs if comparison.find(*pair) is None]
    done = len(plan.pairs) - len(missing)
    reporter.say(
        f"Comparing {len(plan.methods)} methods on {inputs.model_name}, scheme "
        f"{settings.scheme.name}: {plan.draws} of {tables.shots(plan.num_shots)},\n"
        f"every student evaluated on {inputs.test_name}."
        + (f" {done} runs are there already." if done else "")
    )
    if comparison.top1_teacher is None:
        comparison.top1_teacher = evaluation.teacher_accuracy(inputs, reporter)
    reporter.say(f"  {'teacher':<14}           {comparison.top1_teacher:6.2f} %")
    for index, (method, seed) in enumerate(missing, start=done + 1):
        record = _run_one(comparison, method, seed, plan, inputs, settings, reporter)
        comparison.add(record)
        reporter.say(
            f"  {method:<14}  seed {seed:<3} {record.top1:6.2f} %  {record.seconds:6.1f} s"
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
    sample = _draw(inputs, plan.num_shots, seed)
    # Without data every draw gives the same student: one evaluation serves all of them.
    earlier = comparison.of(method) if method == method_names.DATA_FREE else []
    known_top1 = earlier[0].top1 if earlier else None
    run = execute(method, inputs, sample, settings, reporter, known_top1)
    report = run.report
    return Record(
        method,
        report.scheme,
        plan.num_shots,
        seed,
        run.top1,
        report.seconds,
        report.parameters,
        report.nonzero,
        report.flops,
    )


def _draw(inputs: Inputs, num_shots: int, seed: int) -> FewShotSample:
    return sampling.sample_per_class(inputs.train.labels, num_shots, seed, inputs.data_name)


def _kept(comparison: Comparison) -> str:
    """What an interrupted comparison leaves behind, in words."""
    count = len(comparison.records)
    if comparison.path is None or not count:
        return "nothing was written"
    return f"{count} runs are in {comparison.path}; go on with --resume"


def _report(comparison: Comparison, plan: _Plan, inputs: Inputs, figure_path: Path | None) -> None:
    identity, top1_teacher = comparison.identity, comparison.top1_teacher
    assert top1_teacher is not None
    size = cost.size(inputs.teacher, inputs.test_images[:1])
    few = len(inputs.test_images) < SMALL_TEST_SET
    num_test = len(inputs.test_images) if few else None
    rows, points = [tables.Row("teacher", [top1_teacher], [], size, num_test=num_test)], []
    for method in plan.methods:
        records = comparison.of(method, range(plan.num_seeds))
        paper = published.lookup(
            method,
            model_name=inputs.model_name,
            data_name=inputs.data_name,
            scheme=identity["scheme"],
            num_shots=plan.num_shots,
        )
        row = replace(_row(method, records, paper), num_test=num_test)
        rows.append(row)
        mean, std = tables.mean_and_std(row.top1)
        seconds = statistics.fmean(row.seconds)
        points.append(
            methods_figure.Point(method, mean, std, seconds, paper.mean if paper else None)
        )
    stays = tables.what_stays(identity["scheme"], inputs.model_name, size, rows[-1].size)
    title = _title(inputs, identity, plan)
    has_paper = any(row.published for row in rows)
    note = _note(inputs, has_paper, few)
    if figure_path is not None:
        methods_figure.draw(
            points,
            figure_path,
            title=title,
            subtitle="\n".join(stays),
            teacher_top1=top1_teacher,
            num_test=len(inputs.test_images),
        )
    tables.show(tables.networks(title, rows, f"{tables.wrapped(*stays)}\n{note}"))
    tables.show_written(comparison.path, figure_path)


def _title(inputs: Inputs, identity: dict[str, Any], plan: _Plan) -> str:
    augment = f", augmented by {identity['augment']}" if identity["augment"] else ""
    return (
        f"{inputs.model_name} on {inputs.data_name}, scheme {identity['scheme']}, "
        f"{tables.shots(plan.num_shots)}, {plan.draws}{augment}"
    )


def _row(method: str, records: Sequence[Record], paper: published.Published | None) -> tables.Row:
    return tables.Row(
        method,
        [record.top1 for record in records],
        [record.seconds for record in records],
        cost.Size(records[0].parameters, records[0].nonzero, records[0].flops),
        tables.spread(paper.mean, paper.std) if paper else "",
    )


def _note(inputs: Inputs, has_paper: bool, few: bool) -> str:
    note = tables.wrapped(
        f"top-1 on {inputs.test_name}, mean ± standard deviation over draws",
        *([tables.INTERVAL_NOTE] if few else []),
        f"seconds: mean time to compress; {tables.FLOPS_NOTE}",
    )
    return f"{note}\n{published.SOURCES}" if has_paper else note
