"""`fsc evaluate`: accuracy and size of a network on disk, or of a teacher by its name."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from fsc.cli import evaluation, inputs as cli_inputs, options, saved, tables, timing
from fsc.cli.given import Inputs
from fsc.cli.progress import Reporter
from fsc.cli.run import Accuracy, accuracy_on_test
from fsc.cli.teachers import Statistics
from fsc.files import write_json
from fsc.networks import cost
from fsc.report.interval import wilson


def command(
    path: Path | None,
    data_name: str,
    model_name: str | None,
    data_root: Path | None,
    size: tuple[int, int] | None,
    normalize: Statistics | None,
    device: torch.device,
    num_test: int | None,
    json_path: Path | None,
    overwrite: bool,
) -> None:
    """Print accuracy, parameters and FLOPs of the network in PATH, or of a teacher by its name.

    PATH is a .safetensors file that fsc wrote, the folder that fsc compress wrote it to, or a
    checkpoint of a dense network, which --model names.
    """
    path = None if path is None else saved.file_of(path)
    options.check_outputs(json_path, None, replacing=overwrite)
    if path is not None:
        network = saved.read(path, data_name, model_name)
        inputs = network.tested_on(data_name, data_root, size, normalize, device)
    elif model_name is not None:
        inputs = cli_inputs.load(model_name, data_name, data_root, None, device, size, normalize)
    else:
        raise click.UsageError("Give PATH, the file of a network, or --model.")
    title = inputs.model_title if path is None else path.name
    inputs = inputs.evaluated_on(num_test)
    with Reporter() as reporter:
        for line in inputs.notes:
            reporter.say(line)
        accuracy = None
        if len(inputs.test_images):
            inputs.check_scores(is_all=True)
            accuracy = accuracy_on_test(inputs.teacher, inputs, reporter, title)
        (milliseconds,) = timing.one_image(inputs, [inputs.teacher], reporter)
    row = _row(inputs, path, accuracy, milliseconds)
    if json_path is not None:
        name = inputs.model_name if path is None else str(path)
        write_json(json_path, {"model": name, "data": inputs.data_name} | _to_dict(row))
    _show(inputs, title, row, accuracy)
    tables.show_written(json_path)


def _row(
    inputs: Inputs, path: Path | None, accuracy: Accuracy | None, milliseconds: float
) -> tables.Row:
    return tables.Row(
        "teacher" if path is None else path.stem,
        [] if accuracy is None else [accuracy.top1],
        [],
        cost.size(inputs.teacher, inputs.example),
        num_test=len(inputs.test_images),
        kilobytes=evaluation.kilobytes_as_saved(inputs)
        if path is None
        else evaluation.kilobytes(path),
        milliseconds=milliseconds,
        top5=[] if accuracy is None or accuracy.top5 is None else [accuracy.top5],
    )


def _to_dict(row: tables.Row) -> dict[str, Any]:
    """A row under the names that a report of `fsc compress` has for the same."""
    found: dict[str, Any] = {"test_images": row.num_test}
    for name, shares in (("top1", row.top1), ("top5", row.top5)):
        if shares:
            found[name] = shares[0]
    if row.top1 and row.num_test:
        found["top1_interval"] = list(wilson(row.top1[0], row.num_test))
    return found | {
        **asdict(row.size),
        "kilobytes": row.kilobytes,
        "milliseconds": row.milliseconds,
    }


def _show(inputs: Inputs, title: str, row: tables.Row, accuracy: Accuracy | None) -> None:
    on = f"{inputs.data_title}, not evaluated" if accuracy is None else inputs.test_name
    interval = [] if accuracy is None else [tables.INTERVAL_NOTE]
    notes = tables.wrapped(*interval, evaluation.COST_NOTE, tables.FLOPS_NOTE)
    tables.show(tables.networks(f"{title} on {on}", [row], notes))
