"""`fsc export`: a network on disk as a file that runs without fsc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import torch
from rich.table import Table
from torch.utils._pytree import tree_map

from fsc import export, models
from fsc.cli import evaluation, locks, saved, tables
from fsc.cli.sentences import as_typed
from fsc.cli.trying import channels_read, first_scores
from fsc.exporting import Exported, format_of
from fsc.files import write_json
from fsc.images.checks import rank_of
from fsc.images.joint import Inputs
from fsc.networks.plain import drawn

# Images that outputs are compared on at once.
_NUM_IMAGES = 7
_SIDES = {"cifar10": 32, "cifar100": 32, "digits": 8}


def command(
    path: Path,
    onnx_path: Path | None,
    torch_path: Path | None,
    model_name: str | None,
    size: tuple[int, int] | None,
    json_path: Path | None,
    overwrite: bool,
) -> None:
    """Write the network in PATH as a file of ONNX or of torch.export."""
    flag, target = _target(onnx_path, torch_path)
    file = saved.file_of(path)
    locks.hold_files({flag: target, "--json": json_path}, replacing=overwrite)
    network = saved.read(file, None, model_name)
    images = _images(network, file, size)
    for note in network.notes:
        tables.show(note)
    found = export(network.model, target, images)
    if json_path is not None:
        write_json(json_path, {"model": str(file), **found.to_dict()})
    tables.show(_table(found, file))
    tables.show_written(target, json_path)


def _target(onnx_path: Path | None, torch_path: Path | None) -> tuple[str, Path]:
    """The flag that names the file to write, and the file, once it can be written here at all."""
    given = {"--onnx": onnx_path, "--torch-export": torch_path}
    paths = [(flag, path) for flag, path in given.items() if path is not None]
    if len(paths) != 1:
        got = " and ".join(as_typed(given)) or "none"
        raise click.UsageError(f"Give either {' or '.join(given)}, a file to write, got {got}.")
    flag, path = paths[0]
    suffix = ".onnx" if path is onnx_path else ".pt2"
    if path.suffix != suffix:
        raise ValueError(f"{flag} must name a file that ends in {suffix}, got {path}")
    format_of(flag, path).check_installed()
    return flag, path


def _images(network: saved.Network, path: Path, size: tuple[int, int] | None) -> Inputs:
    """Drawn images of the size that a network takes; what is on them does not matter.

    Raises:
        ValueError: the size is not known, or the network does not run on it.
    """
    model, generator = network.model, torch.Generator().manual_seed(0)
    shapes = network.header.get("plain")
    if size is None and shapes is not None:
        several = [drawn(model, shapes, generator) for _ in range(_NUM_IMAGES)]
        joined: Inputs = tree_map(lambda *leaves: torch.cat(leaves), *several)
        return joined
    if rank_of(model) != 4:
        raise ValueError(
            f"{path} must hold a network of images to be exported from here, got one of another "
            "shape of input; fsc.export takes it in Python"
        )
    side = _side(network) if size is None else size[1]
    if side is None:
        raise ValueError(f"--size must be given, because {path} does not say the size of images")
    shape = (_NUM_IMAGES, channels_read(model), side, side)
    images = torch.randn(shape, generator=generator)
    first_scores(model, images[:1], path.name, "--size")
    return images


def _side(network: saved.Network) -> int | None:
    """The side of a network's images; None where neither its file nor its library says it."""
    factory, data_name = network.factory, network.header.get("data")
    if network.preparation is not None and network.preparation.size is not None:
        size: Any = network.preparation.size
    elif data_name in _SIDES:
        return _SIDES[data_name]
    elif factory.kind == "fsc":
        return models.image_side(factory.name)
    else:
        size = (factory.data_configuration(network.model) or {}).get("size")
    return None if size is None else int(size[1])


def _table(found: Exported, file: Path) -> Table:
    shapes = " and ".join(" x ".join(map(str, shape)) for shape in found.inputs.values())
    on = " and ".join(map(str, found.num_images))
    caption = tables.wrapped(
        f"ms: for one image on one thread, median of 50; {file.name} in PyTorch",
        f"outputs for {on} drawn images differ by {found.difference:.1e} of the largest at most",
    )
    table = Table(
        title=f"{found.format} file of {file.name}, for any number of images of {shapes}",
        caption=caption,
        box=tables.BOX,
        pad_edge=False,
        collapse_padding=True,
    )
    for heading in ("file", "kB", "ms"):
        table.add_column(heading, justify="left" if heading == "file" else "right")
    for name, size, milliseconds in (
        (file.name, evaluation.kilobytes(file), found.milliseconds_student),
        (found.path.name, found.kilobytes, found.milliseconds),
    ):
        table.add_row(name, f"{size:,.0f}", f"{milliseconds:.2f}")
    return table
