"""`fsc compress`: one teacher, one method, one student on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

import click
import torch

from fsc.cli import evaluation, inputs as cli_inputs, locks, options, outputs, resumption, tables
from fsc.cli.drawing import Draw
from fsc.cli.evaluation import Measured
from fsc.cli.given import Inputs
from fsc.cli.goals import Asked
from fsc.cli.progress import Reporter
from fsc.cli.run import MODEL_FILE, Settings, describe, make_student, save_model
from fsc.cli.teachers import Statistics
from fsc.files import Writers, write_json, write_together
from fsc.goal import Goal
from fsc.images.sampling import FewShotSample
from fsc.methods.training_state import in_words
from fsc.networks import cost
from fsc.result import Report, Result
from fsc.scheme_tables import Style

_NUM_WORST_LAYERS = 5


def command(
    model_name: str,
    data_name: str,
    method: str,
    scheme_name: str | None,
    flops: float | None,
    parameters: float | None,
    pruning_ratio: float | None,
    ignored: tuple[str, ...],
    round_to: int,
    style: Style,
    num_shots: int | None,
    num_images: int | None,
    seed: int,
    output: Path,
    checkpoint_path: Path | None,
    data_root: Path | None,
    size: tuple[int, int] | None,
    normalize: Statistics | None,
    mir_steps: int,
    augment: str | None,
    batch_size: int,
    memory_budget: float | None,
    device: torch.device,
    resume: bool,
    overwrite: bool,
    all_layers: bool,
    num_test: int | None,
    evaluated: bool,
) -> None:
    """Compress a pretrained network and write the student, a report and the sample."""
    draw = Draw(num_shots, num_images)
    asked = Asked(scheme_name, flops, parameters, pruning_ratio, ignored, round_to, style)
    if num_test is not None and not evaluated:
        raise click.UsageError("Give either --test-images or --no-evaluate.")
    options.check_mir_steps([method])
    unfinished = output / "unfinished"
    locks.hold_folder(output)
    outputs.check_student(output, unfinished, resume=resume, overwrite=overwrite)
    inputs = cli_inputs.load(
        model_name, data_name, data_root, checkpoint_path, device, size, normalize
    )
    inputs = inputs.evaluated_on(num_test)
    evaluated = evaluated and len(inputs.test_images) > 0
    if evaluated:
        inputs.check_scores()
    goal = asked.goal(inputs)
    sample = draw.sample(inputs, seed)
    budget = options.to_bytes(memory_budget)
    settings = Settings(goal, mir_steps, batch_size, budget, augment, unfinished)
    outputs.check_space(inputs, sample.num_images, settings, output)
    journal, begun = resumption.take_up(
        unfinished, method, inputs, sample, settings, resume=resume, overwrite=overwrite
    )
    with Reporter() as reporter:
        intention = _intention(method, inputs, goal, sample, evaluated)
        reporter.say(tables.wrapped(*filter(None, (*inputs.notes, intention, begun))))
        try:
            result = make_student(method, inputs, sample, settings, reporter)
            # An interrupted evaluation must not cost the student.
            _write_or_rescue(output, method, result, sample, inputs, journal.signature())
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_unfinished(unfinished)) from None
        measured = _measure(output, result, inputs, reporter, evaluated)
    report = describe(method, result.report, sample, inputs) | measured.to_dict()
    write_json(output / "report.json", report)
    # With it an interrupted evaluation was taken up without solving again.
    shutil.rmtree(unfinished, ignore_errors=True)
    # Last: whoever reads it may be gone.
    _show(method, result.report, inputs, measured, all_layers)
    tables.show(f"Written to {output}: {MODEL_FILE}, report.json, samples.json")


def _measure(
    output: Path, result: Result, inputs: Inputs, reporter: Reporter, evaluated: bool
) -> Measured:
    path = output / MODEL_FILE
    try:
        return evaluation.measure(inputs, result.student, path, reporter, evaluated=evaluated)
    except (KeyboardInterrupt, ValueError, OSError) as error:
        kept = f"the student is in {output}; only what is measured of it is missing"
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"{kept}, go on with --resume") from None
        raise ValueError(f"{error}; {kept}") from error


def _unfinished(journal: Path) -> str:
    """What an interrupted compression leaves behind, in words."""
    kept = in_words(journal)
    if not kept:
        shutil.rmtree(journal, ignore_errors=True)
        return "nothing was written"
    return f"{kept} are in {journal}; go on with --resume"


def _intention(
    method: str, inputs: Inputs, goal: Goal, sample: FewShotSample, evaluated: bool
) -> str:
    then = f"then evaluating student and teacher on {inputs.test_name}"
    return (
        f"Compressing {inputs.model_title} by {method}, {goal.in_words}, from "
        f"{sample.num_images} training images of {inputs.data_title}; "
        f"{then if evaluated else 'nothing is evaluated'}."
    )


def _write_or_rescue(
    output: Path,
    method: str,
    result: Result,
    sample: FewShotSample,
    inputs: Inputs,
    signature: Writers,
) -> None:
    try:
        # Signed as unfinished until what is measured of the student stands in its report too.
        _write(output, method, result, sample, inputs, signature)
    except OSError as error:
        kept = outputs.rescue(lambda folder: _write(folder, method, result, sample, inputs, {}))
        raise OSError(f"{error}; {kept}") from error


def _write(
    output: Path,
    method: str,
    result: Result,
    sample: FewShotSample,
    inputs: Inputs,
    signature: Writers,
) -> None:
    report = describe(method, result.report, sample, inputs)
    header = {"method": method, "scheme": result.report.scheme}
    # A model without its report tells nobody where it came from: all three files or none.
    write_together(
        {
            **signature,
            output / "report.json": lambda path: write_json(path, report),
            output / "samples.json": sample.save,
            output / MODEL_FILE: lambda path: save_model(path, result.student, inputs, **header),
        }
    )


def _show(
    method: str, report: Report, inputs: Inputs, measured: Measured, all_layers: bool
) -> None:
    teacher = cost.size(inputs.teacher, inputs.example)
    student = cost.Size(report.parameters, report.nonzero, report.flops)
    rows = [
        measured.row("teacher", teacher, [], of_teacher=True),
        measured.row(method, student, [report.seconds], of_teacher=False),
    ]
    if report.layers:
        tables.show(tables.layers(report.layers, None if all_layers else _NUM_WORST_LAYERS))
    title = f"{inputs.model_title} on {inputs.data_title}, not evaluated"
    if measured.accuracy is not None:
        title = f"{inputs.model_title} on {inputs.test_name}"
    stays = tables.what_stays(report.scheme, inputs.known_as, teacher, student)
    tables.show(tables.networks(title, rows, tables.wrapped(*stays, *measured.notes)))
