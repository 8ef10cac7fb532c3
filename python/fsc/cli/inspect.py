"""`fsc inspect`: what of a network can go, what goes together, what stays and why."""

from __future__ import annotations

from pathlib import Path

import torch
from rich.console import Console
from torch import Tensor, nn

from fsc import inspect, models
from fsc.cli import options, tables
from fsc.cli.trying import channels_read, first_scores
from fsc.files import write_json
from fsc.models.factories import Factory, parse
from fsc.report.inspection import WIDTH

_SIDE = 224  # of an image, where neither --size nor the network says another


def command(
    model_name: str, size: tuple[int, int] | None, json_path: Path | None, overwrite: bool
) -> None:
    """Show which channels of a network can be cut, and why the others stay."""
    options.check_outputs(json_path, None, replacing=overwrite)
    factory = parse(model_name)
    model = factory.build()
    image = _image(factory, model, size)
    first_scores(model, image, Path(model_name).name, "--size")
    found = inspect(model, image)
    if json_path is not None:
        write_json(json_path, {"model": model_name, **found.to_dict()})
    # Written into a file or a pipe it is as narrow as a page.
    width = max(WIDTH, Console().width)
    tables.show(f"{model_name}: {found.table(width)}")
    tables.show_written(json_path)


def _image(factory: Factory, model: nn.Module, size: tuple[int, int] | None) -> Tensor:
    """One image as a network takes it; what is on it does not matter."""
    if factory.kind == "fsc" and size is None:
        return models.example_inputs(factory.name)
    if size is None:
        size = (factory.data_configuration(model) or {}).get("size")
    side = _SIDE if size is None else size[1]
    return torch.zeros(1, channels_read(model), side, side)
