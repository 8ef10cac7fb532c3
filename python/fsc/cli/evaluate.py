"""`fsc evaluate`: accuracy and size of a network on disk, or of a teacher by its name."""

from __future__ import annotations

from pathlib import Path

import click
import torch

from fsc.cli import evaluation, inputs as cli_inputs, saved, tables
from fsc.cli.given import Inputs
from fsc.cli.progress import Reporter
from fsc.cli.run import Accuracy, accuracy_on_test
from fsc.cli.teachers import Statistics
from fsc.model_folder import file_in
from fsc.networks import cost
from fsc.networks.latency import latencies


def command(
    path: Path | None,
    data_name: str,
    model_name: str | None,
    data_root: Path | None,
    size: tuple[int, int] | None,
    normalize: Statistics | None,
    device: torch.device,
    num_test: int | None,
) -> None:
    """Print accuracy, parameters and FLOPs of the network in PATH, or of a teacher by its name.

    PATH is a .safetensors file that fsc wrote, the folder that fsc compress wrote it to, or a
    checkpoint of a dense network, which --model names.
    """
    if path is not None:
        path = file_in(path) if path.is_dir() else path
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
            inputs.check_scores()
            accuracy = accuracy_on_test(inputs.teacher, inputs, reporter, title)
    _show(inputs, title, path, accuracy)


def _show(inputs: Inputs, title: str, path: Path | None, accuracy: Accuracy | None) -> None:
    (milliseconds,) = latencies([inputs.teacher], inputs.example)
    row = tables.Row(
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
    on = f"{inputs.data_title}, not evaluated" if accuracy is None else inputs.test_name
    interval = [] if accuracy is None else [tables.INTERVAL_NOTE]
    notes = tables.wrapped(*interval, evaluation.COST_NOTE, tables.FLOPS_NOTE)
    tables.show(tables.networks(f"{title} on {on}", [row], notes))
