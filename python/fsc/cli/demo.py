"""`fsc demo`: everything once, from nothing, on digits that scikit-learn brings along."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsc import method_names, schemes
from fsc.cli import evaluation, inputs as cli_inputs, invocation, locks, outputs, tables, timing
from fsc.cli.given import Inputs
from fsc.cli.progress import Reporter
from fsc.cli.run import Run, accuracy_on_test, execute, save_model
from fsc.cli.settings import Settings
from fsc.files import check_writable, read_json, write_json
from fsc.goal import Goal
from fsc.images import data, sampling
from fsc.methods.identity import versions
from fsc.networks import cost
from fsc.networks.latency import one_thread
from fsc.report import methods_figure
from fsc.report.interval import correct, wilson
from fsc.training import supervised as training

_MODEL, _DATA, _SCHEME = "resnet20", "digits", "res-50"
_INTENTION = (
    "A small network becomes smaller, from a few images without their labels.\n"
    "This takes about a minute, half of it to have a network to begin with.\n"
    f"Training the teacher, a {_MODEL}, on the digits that scikit-learn brings along:"
)


@dataclass(frozen=True)
class Plan:
    """How much the demonstration does.

    Attributes:
        epochs: of training the teacher.
        num_shots: images a class to compress from.
        mir_steps: minibatches of MiR.
        methods: what to compress by.
        device: where to compute.
    """

    epochs: int = 25
    num_shots: int = 5
    mir_steps: int = 200
    methods: Sequence[str] = tuple(
        name
        for name in method_names.NAMES
        if name not in (*method_names.WITH_LABELS, *method_names.LONGEST)
        and name != method_names.WEIGHTS_ALONE
    )
    device: torch.device = torch.device("cpu")


@dataclass(frozen=True)
class Teacher:
    """The trained network's row in the table: accuracy in percent, seconds of training."""

    top1: float
    seconds: float
    size: cost.Size


@dataclass(frozen=True)
class Cost:
    """What a network on disk costs: kB of its file, milliseconds for one image."""

    kilobytes: float
    milliseconds: float


def command(
    output: Path, json_path: Path | None, overwrite: bool, seed: int, device: torch.device
) -> None:
    """Train a small network on bundled digits and compress it by every method."""
    locks.hold_folder("--output", output, outputs.DEMO)
    outputs.hold_beside({"--json": json_path}, output, outputs.DEMO, replacing=overwrite)
    outputs.check_demo(output, overwrite=overwrite)
    demonstrate(output, seed, Plan(device=device))
    if json_path is not None:
        write_json(json_path, read_json(output / "report.json", "report"))


def demonstrate(output: Path, seed: int, plan: Plan) -> None:
    """Train, compress by every method, print a table and write everything to `output`.

    Raises:
        OSError: the folder cannot be written.
        KeyboardInterrupt: with what was written until then.
    """
    check_writable(output)
    written: list[str] = []
    try:
        with one_thread():  # for images of 8x8 pixels the others cost more than they give
            _demonstrate(output, seed, plan, written)
    except KeyboardInterrupt:
        kept = f"kept in {output}: {', '.join(written)}" if written else "nothing was written"
        raise KeyboardInterrupt(kept) from None


def _demonstrate(output: Path, seed: int, plan: Plan, written: list[str]) -> None:
    scheme = schemes.named(_SCHEME, _MODEL)
    with Reporter() as reporter:
        reporter.say(_INTENTION)
        inputs, teacher = _trained(seed, plan, reporter)
        save_model(output / "teacher.safetensors", inputs.teacher, inputs, top1=teacher.top1)
        written.append("teacher.safetensors")
        sample = sampling.sample_per_class(inputs.train.labels, plan.num_shots, seed, _DATA)
        sample.save(output / "samples.json")
        written.append("samples.json")
        reporter.say(
            f"Compressing it from {tables.shots(plan.num_shots)}, by {len(plan.methods)} methods "
            "(cd: cross distillation,\n"
            "fskd: few sample knowledge distillation, mir: mimicking then replacing):"
        )
        runs = []
        for method in plan.methods:
            run = execute(method, inputs, sample, Settings(Goal(scheme), plan.mir_steps), reporter)
            seconds = f"{run.report.seconds:5.1f} s"
            reporter.say(f"  {method:<15} {seconds}  {method_names.IN_WORDS[method]}")
            save_model(output / f"{method}.safetensors", run.student, inputs, method=method,
                       scheme=scheme.name, top1=run.accuracy.top1)  # fmt: skip
            written.append(f"{method}.safetensors")
            runs.append(run)
        costs = _costs(output, inputs, runs, reporter)
    write_json(output / "report.json", _report(seed, plan, inputs, teacher, runs, costs))
    written.append("report.json")
    _draw(output / "figure.png", plan, inputs, teacher, runs)
    _show(output, plan, inputs, teacher, runs, costs)


def _costs(
    output: Path, inputs: Inputs, runs: Sequence[Run], reporter: Reporter
) -> dict[str, Cost]:
    """What the teacher and every student cost, by name."""
    networks = {"teacher": inputs.teacher} | {run.method: run.student for run in runs}
    times = timing.one_image(inputs, list(networks.values()), reporter)
    sizes = [evaluation.kilobytes(output / f"{name}.safetensors") for name in networks]
    return dict(zip(networks, map(Cost, sizes, times), strict=True))


def _trained(seed: int, plan: Plan, reporter: Reporter) -> tuple[Inputs, Teacher]:
    """A teacher trained on all training images, and what it costs."""
    start = time.perf_counter()
    untrained = _untrained(seed).to(plan.device)
    inputs = cli_inputs.with_teacher(_MODEL, _DATA, None, untrained)
    normalization, split = inputs.normalization, data.load(_DATA, "train")
    images = data.to_tensor(split.images, normalization.mean, normalization.std)  # [N, 1, 8, 8]
    labels = torch.from_numpy(split.labels)  # [N]
    stage = reporter.stage("training the teacher")
    training.train(inputs.teacher, images, labels, epochs=plan.epochs, seed=seed, progress=stage)
    seconds = time.perf_counter() - start
    top1 = accuracy_on_test(inputs.teacher, inputs, reporter, "teacher").top1
    reporter.say(
        f"  {len(images):,} images, {plan.epochs} epochs, {seconds:.1f} s; then right on "
        f"{correct(top1, len(inputs.test_images))} of {inputs.test_name}"
    )
    return inputs, Teacher(top1, seconds, cost.size(inputs.teacher, images[:1]))


def _untrained(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cli_inputs.build(_MODEL, _DATA)


def _report(
    seed: int,
    plan: Plan,
    inputs: Inputs,
    teacher: Teacher,
    runs: Sequence[Run],
    costs: Mapping[str, Cost],
) -> dict[str, Any]:
    num_test = len(inputs.test_images)

    def measured(name: str, top1: float) -> dict[str, Any]:
        return {"top1_interval": list(wilson(top1, num_test)), **asdict(costs[name])}

    return {
        "model": _MODEL,
        "data": _DATA,
        "scheme": _SCHEME,
        "shots": plan.num_shots,
        "seed": seed,
        "epochs": plan.epochs,
        "test_images": num_test,
        "teacher": asdict(teacher) | measured("teacher", teacher.top1),
        "runs": [run.to_dict(inputs) | measured(run.method, run.accuracy.top1) for run in runs],
        "versions": versions(),
    }


def _what_stays(teacher: Teacher, runs: Sequence[Run]) -> list[str]:
    return tables.what_stays(_SCHEME, _MODEL, teacher.size, _size(runs[0]))


def _size(run: Run) -> cost.Size:
    return cost.Size(run.report.parameters, run.report.nonzero, run.report.flops)


def _draw(path: Path, plan: Plan, inputs: Inputs, teacher: Teacher, runs: Sequence[Run]) -> None:
    points = [
        methods_figure.Point(run.method, run.accuracy.top1, None, run.report.seconds)
        for run in runs
    ]
    methods_figure.draw(
        points,
        path,
        title=f"{_MODEL}, compressed from {tables.shots(plan.num_shots)} of {_DATA} without labels",
        subtitle="\n".join(_what_stays(teacher, runs)),
        teacher_top1=teacher.top1,
        num_test=len(inputs.test_images),
    )


def _show(
    output: Path,
    plan: Plan,
    inputs: Inputs,
    teacher: Teacher,
    runs: Sequence[Run],
    costs: Mapping[str, Cost],
) -> None:
    num_test = len(inputs.test_images)

    def row(name: str, top1: float, seconds: float, size: cost.Size) -> tables.Row:
        return tables.Row(name, [top1], [seconds], size, num_test=num_test, **asdict(costs[name]))

    rows = [row("teacher", teacher.top1, teacher.seconds, teacher.size)]
    rows += [row(run.method, run.accuracy.top1, run.report.seconds, _size(run)) for run in runs]
    notes = tables.wrapped(
        *_what_stays(teacher, runs),
        tables.INTERVAL_NOTE,
        "seconds: of training the teacher, of compressing the others",
        evaluation.COST_NOTE,
        "cd and fskd leave no batch normalization: it is part of the convolutions",
        tables.FLOPS_NOTE,
    )
    title = f"{_MODEL} on {inputs.test_name}, {tables.shots(plan.num_shots)} to compress from"
    tables.show(tables.networks(title, rows, notes))
    best = max(runs, key=lambda run: run.accuracy.top1)
    student = output / f"{best.method}.safetensors"
    tables.show(
        f"\nWritten to {output}: teacher.safetensors and one file a method,\n"
        "samples.json, report.json; figure.png draws the table.\n"
        f"Try next: {invocation.typed('evaluate', student, '--data', _DATA)}"
    )
