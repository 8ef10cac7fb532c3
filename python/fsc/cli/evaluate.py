"""`fsc evaluate`: accuracy and size of a network on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsc.cli import evaluation, inputs, tables
from fsc.cli.inputs import Normalization
from fsc.cli.progress import Reporter
from fsc.cli.run import BATCH_SIZE_TEST, MODEL_FILE
from fsc.networks import checkpoint, cost
from fsc.networks.latency import latencies
from fsc.networks.pretrained import load_pretrained
from fsc.training.evaluate import accuracy


def command(
    path: Path,
    data_name: str,
    model_name: str | None,
    data_root: Path | None,
    device: torch.device,
    num_test: int | None,
) -> None:
    """Print top-1 accuracy, parameters and FLOPs of the network in PATH.

    PATH is a .safetensors file that fsc wrote, the folder that fsc compress wrote it to, or a
    checkpoint of a dense network, which --model names.
    """
    path = _file_of(path)
    model, normalization = _read(path, data_name, model_name)
    every_image, every_label = inputs.test_split(data_name, data_root, normalization)
    images, labels = inputs.first_of_test(every_image, every_label, num_test, data_name)
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    if first.in_channels != images.shape[1]:
        raise ValueError(
            f"data must have the {first.in_channels} channels that the network of {path} reads, "
            f"got {data_name} with {images.shape[1]}"
        )
    with Reporter() as reporter:
        top1 = accuracy(
            model.to(device),
            images,
            labels,
            batch_size=BATCH_SIZE_TEST,
            progress=reporter.stage(path.name),
        )
    (milliseconds,) = latencies([model], images[:1])
    row = tables.Row(
        path.stem,
        [top1],
        [],
        cost.size(model, images[:1]),
        num_test=len(images),
        kilobytes=evaluation.kilobytes(path),
        milliseconds=milliseconds,
    )
    which = inputs.name_of_test(len(images), len(every_image), data_name)
    notes = tables.wrapped(tables.INTERVAL_NOTE, evaluation.COST_NOTE, tables.FLOPS_NOTE)
    tables.show(tables.networks(f"{path.name} on {which}", [row], notes))


def _file_of(path: Path) -> Path:
    """The file itself, or the student in a folder of `fsc compress`."""
    if not path.is_dir():
        return path
    student = path / MODEL_FILE
    if not student.is_file():
        others = sorted(other.name for other in path.glob("*.safetensors"))
        raise FileNotFoundError(
            f"folder {path} must hold {MODEL_FILE}, which fsc compress writes, got "
            f"{', '.join(others) or 'no network'}; name a file"
        )
    return student


def _read(path: Path, data_name: str, model_name: str | None) -> tuple[nn.Module, Normalization]:
    """The network and what it expects of images."""
    if model_name is not None:
        model = load_pretrained(inputs.build(model_name, data_name), path)
        return model, inputs.normalization_of(model_name, data_name)
    if path.is_file() and path.suffix != ".safetensors":
        raise ValueError(f"{path} does not say which network it is: name it with --model")
    header = checkpoint.read_metadata(path)
    model = checkpoint.load(path)
    if header.get("normalization") is None:
        return model, inputs.normalization_of(header["model"], data_name)
    return model, _stored(header["normalization"], path)


def _stored(content: Any, path: Path) -> Normalization:
    pair = [content.get(key) if isinstance(content, dict) else None for key in ("mean", "std")]
    if not all(isinstance(values, list) and all(map(_is_number, values)) for values in pair):
        raise ValueError(
            f"{path}: normalization in the header must hold mean and std, a finite number a "
            f"channel each, got {content!r}"
        )
    return Normalization(content["mean"], content["std"])


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= torch.finfo(torch.float32).max
