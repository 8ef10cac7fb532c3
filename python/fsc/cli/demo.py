"""`fsc demo`: everything once, from nothing, on digits that scikit-learn brings along."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsc.cli import inputs as cli_inputs
from fsc.cli import method_names, options, tables
from fsc.cli.inputs import Inputs
from fsc.cli.progress import Reporter
from fsc.cli.run import Run, Settings, accuracy_on_test, execute, save_model
from fsc.compression import versions
from fsc.files import check_writable, write_json
from fsc.images import data, sampling
from fsc.networks import cost
from fsc.report import figure
from fsc.training import supervised as training

_MODEL, _DATA, _SCHEME = "resnet20", "digits", "res-50"


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
    methods: Sequence[str] = method_names.NAMES
    device: torch.device = torch.device("cpu")


@dataclass(frozen=True)
class Teacher:
    """The trained network's row in the table: accuracy in percent, seconds of training."""

    top1: float
    seconds: float
    size: cost.Size


def command(output: Path, seed: int, device: torch.device) -> None:
    """Train a small network on bundled digits and compress it by every method."""
    demonstrate(output, seed, Plan(device=device))


def demonstrate(output: Path, seed: int, plan: Plan) -> None:
    """Train, compress by every method, print a table and write everything to `output`.

    Raises:
        OSError: the folder cannot be written.
        KeyboardInterrupt: with what was written until then.
    """
    check_writable(output)
    written: list[str] = []
    try:
        with _one_thread():
            _demonstrate(output, seed, plan, written)
    except KeyboardInterrupt:
        kept = f"kept in {output}: {', '.join(written)}" if written else "nothing was written"
        raise KeyboardInterrupt(kept) from None


def _demonstrate(output: Path, seed: int, plan: Plan, written: list[str]) -> None:
    scheme = cli_inputs.find_scheme(_SCHEME, _MODEL)
    with Reporter() as reporter:
        reporter.say(
            f"Training a {_MODEL} on the digits of scikit-learn, then compressing it by "
            f"{len(plan.methods)} methods,\nscheme {scheme.name}, from {plan.num_shots} images a "
            "class without their labels."
        )
        inputs, teacher = _trained(seed, plan, reporter)
        save_model(output / "teacher.safetensors", inputs.teacher, inputs, top1=teacher.top1)
        written.append("teacher.safetensors")
        reporter.say(f"  teacher         {teacher.top1:6.2f} %  {teacher.seconds:6.1f} s")
        sample = sampling.sample_per_class(inputs.train.labels, plan.num_shots, seed, _DATA)
        sample.save(output / "samples.json")
        written.append("samples.json")
        runs = []
        for method in plan.methods:
            run = execute(method, inputs, sample, Settings(scheme, plan.mir_steps), reporter)
            reporter.say(f"  {method:<14}  {run.top1:6.2f} %  {run.report.seconds:6.1f} s")
            save_model(output / f"{method}.safetensors", run.student, inputs, method=method,
                       scheme=scheme.name, top1=run.top1)  # fmt: skip
            written.append(f"{method}.safetensors")
            runs.append(run)
    write_json(output / "report.json", _report(seed, plan, inputs, teacher, runs))
    written.append("report.json")
    _draw(output / "figure.png", plan, teacher, runs)
    _show(output, plan, inputs, teacher, runs)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One thread: for images of 8x8 pixels the others cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _trained(seed: int, plan: Plan, reporter: Reporter) -> tuple[Inputs, Teacher]:
    """A teacher trained on all training images, and what it costs."""
    start = time.perf_counter()
    untrained = _untrained(seed).to(plan.device)
    inputs = cli_inputs.with_teacher(_MODEL, _DATA, None, untrained)
    normalization, split = inputs.normalization, inputs.train
    images = data.to_tensor(split.images, normalization.mean, normalization.std)  # [N, 1, 8, 8]
    labels = torch.from_numpy(split.labels)  # [N]
    stage = reporter.stage("training the teacher")
    training.train(inputs.teacher, images, labels, epochs=plan.epochs, seed=seed, progress=stage)
    seconds = time.perf_counter() - start
    top1 = accuracy_on_test(inputs.teacher, inputs, reporter, "teacher")
    return inputs, Teacher(top1, seconds, cost.size(inputs.teacher, images[:1]))


def _untrained(seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return cli_inputs.build(_MODEL, _DATA)


def _report(
    seed: int, plan: Plan, inputs: Inputs, teacher: Teacher, runs: Sequence[Run]
) -> dict[str, Any]:
    return {
        "model": _MODEL,
        "data": _DATA,
        "scheme": _SCHEME,
        "shots": plan.num_shots,
        "seed": seed,
        "epochs": plan.epochs,
        "teacher": asdict(teacher),
        "runs": [run.to_dict(inputs) for run in runs],
        "versions": versions(),
    }


def _draw(path: Path, plan: Plan, teacher: Teacher, runs: Sequence[Run]) -> None:
    points = [figure.Point(run.method, run.top1, None, run.report.seconds) for run in runs]
    left = 100 * runs[0].report.parameters / teacher.size.parameters
    title = f"{_MODEL} on digits, compressed to {left:.0f} % of its parameters from "
    title += f"{plan.num_shots} images a class"
    figure.draw(points, path, title=title, teacher_top1=teacher.top1)


def _show(output: Path, plan: Plan, inputs: Inputs, teacher: Teacher, runs: Sequence[Run]) -> None:
    rows = [tables.Row("teacher", [teacher.top1], [teacher.seconds], teacher.size)]
    for run in runs:
        size = cost.Size(run.report.parameters, run.report.nonzero, run.report.flops)
        rows.append(tables.Row(run.method, [run.top1], [run.report.seconds], size))
    title = f"{_MODEL} on {len(inputs.test_images):,} test digits, {plan.num_shots} images a class"
    note = f"seconds: of training the teacher, of compressing the others\n{tables.FLOPS_NOTE}"
    tables.show(tables.networks(title, rows, note))
    tables.show(
        f"Written to {output}: teacher.safetensors and one file a method,\n"
        "samples.json, report.json, figure.png\n"
        f"Try: fsc evaluate {output / 'cd-soft.safetensors'} --data digits"
    )
