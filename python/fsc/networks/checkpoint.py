"""Networks on disk with their structure, of whatever widths."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fsc import models
from fsc.arguments import check_dict, check_module, check_path, check_text
from fsc.networks.blocks import drop_blocks
from fsc.networks.computed_weights import copy_of
from fsc.networks.decoupling import split_layers
from fsc.networks.layout import layout_of
from fsc.networks.saved_structure import (
    MAX_COUNT,
    STRUCTURE,
    as_saved,
    drop_as_saved,
    split_as_saved,
    structure_of,
    take_sizes,
)
from fsc.networks.states import (
    Mismatch,
    check_finite,
    check_holds_values,
    check_match,
    versioned,
)
from fsc.networks.structure import match_structure
from fsc.networks.tensor_files import CHECKSUM, read_tensors, write_tensors
from fsc.networks.wrappers import unwrap
from fsc.warning import CompressionWarning
from fsc.wording import shown

FORMAT = "fsc-2"
# The same without a checksum; its files are still read.
_FORMAT_UNCHECKED = "fsc-1"


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    name: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a network, of whatever widths, as one safetensors file that `load` rebuilds.

    The header holds a SHA-256 of itself and of all tensors, which `load` checks.

    Args:
        model: a network, wrapped or not; its channels may have been removed and its batch
            normalization folded.
        path: the file; it appears complete or not at all.
        name: the builder's name, for a network made by `fsc.models.build(name)`, which `load` then
            builds by itself; left out for a network of the user's own.
        metadata: anything that JSON can express, to be read again with `read_metadata`; the keys
            format, model, num_classes, in_channels, plain, sizes, dropped, decoupled and sha256 are
            taken.

    Raises:
        ValueError: the name is unknown, a key is taken, or a weight is missing, NaN or Inf.
        TypeError: JSON cannot express the metadata, or an argument is of the wrong type.
        OSError: the file cannot be written.
    """
    check_path("save: path", path)
    write(model, path, header_of(model, name, metadata))


def header_of(model: nn.Module, name: str, metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the header of a file of a network holds, but for the checksum; see `save`.

    Raises:
        ValueError: the name is unknown, a key is taken, or a weight is missing, NaN or Inf.
        TypeError: an argument is of the wrong type.
    """
    check_module("save: model", model)
    model = unwrap(model)
    check_holds_values("save: model", model)
    check_text("save: name", name)
    metadata = {} if metadata is None else metadata
    check_dict("save: metadata", metadata)
    header: dict[str, Any] = {"format": FORMAT, "model": name}
    if name:
        header |= _ends(model, name)
    header |= structure_of(model)
    reserved = {"format", "model", "num_classes", "in_channels", *STRUCTURE}
    taken = sorted((reserved | {CHECKSUM}) & set(metadata))
    if taken:
        raise ValueError(f"save: metadata must not use the key {taken[0]!r}")
    tensors = model.state_dict()
    check_finite(tensors, "save: model")
    if name:
        _check_name(name, header, tensors)
    return header | dict(metadata)


def write(model: nn.Module, path: str | os.PathLike[str], header: Mapping[str, Any]) -> None:
    """Write a network under a header that `header_of` made; raises what `write_tensors` does."""
    write_tensors(path, unwrap(model).state_dict(), header)


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the metadata of a file that `save` wrote: model, num_classes, in_channels, ....

    The whole file is read and checked, as by `load`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or was not written by `save`, or its model, num_classes or
            in_channels is missing or none that fsc can build.
    """
    check_path("read_metadata: path", path)
    return _read(existing(path))[1]


def load(path: str | os.PathLike[str], model: nn.Module | None = None) -> nn.Module:
    """Rebuild a network that `save` wrote, with the widths it was saved with.

    No code is read from the file: the structure comes from the builder, or from `model`, and the
    widths from the shapes of the tensors.

    Args:
        path: the file.
        model: for a network of the user's own, the same network before compression; it is copied,
            and rewritten by `fsc.plain` where the saved one was.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds NaN or Inf, or does not match the network, or `model`
            is missing.
        TypeError: an argument is of the wrong type, such as a class of modules.
    """
    check_path("load: path", path)
    if model is not None:
        check_module("load: model", model)
    path = existing(path)
    state, header = _read(path)
    given = model
    if model is not None:
        model = as_saved(copy_of(unwrap(model)).cpu(), header, path)
    elif header["model"]:
        # Nothing is allocated for sizes that only the header claims.
        model = models.skeleton(header["model"], header["num_classes"], header["in_channels"])
    else:
        raise ValueError(f"load: model must be given, because {path} names no network of fsc")
    check_finite(state, str(path))
    try:
        return _rebuilt(model, state, header, path)
    except Mismatch as error:
        if given is None:
            raise
        raise ValueError(
            f"load: model must be the network that was compressed, as it was before: {error}"
        ) from error


def check_rebuilds(
    dense: nn.Module, student: nn.Module, header: Mapping[str, Any], name: str
) -> None:
    """Make sure that a file with a header will be read into the network that a name stands for.

    Args:
        dense: the network before compression, which is used up.
        student: what is to be saved.
        header: that `header_of` made for it.
        name: of `dense`.

    Raises:
        ValueError: they do not fit.
    """
    header, where = json.loads(json.dumps(header)), Path(name)
    try:
        _rebuilt(as_saved(dense, header, where), unwrap(student).state_dict(), header, where)
    except ValueError as error:
        raise ValueError(_not_of_name(name, error)) from error


def _rebuilt(
    model: nn.Module, state: Mapping[str, Tensor], header: Mapping[str, Any], path: Path
) -> nn.Module:
    """A dense network, in place, with the structure of a header and the weights of a state."""
    drop_as_saved(model, header.get("dropped", {}), path)
    split_as_saved(model, header.get("decoupled", {}), path)
    layouts = {name: layout_of(parameter) for name, parameter in model.named_parameters()}
    match_structure(model, state)
    take_sizes(model, header.get("sizes", {}), path)
    check_match(model, state, path)
    # Files hold values without their layout in memory.
    state = {
        name: value.contiguous(memory_format=layouts.get(name, torch.contiguous_format))
        for name, value in state.items()
    }
    model.load_state_dict(versioned(state, model), strict=True, assign=True)
    return model.eval()


def _ends(model: nn.Module, name: str) -> dict[str, int]:
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if name not in models.names() or not convolutions or not linears:
        raise ValueError(
            f"save: name must be one of {', '.join(models.names())} and the network such a one, or "
            f"left out for a network of your own, got {shown(name)} for {type(model).__name__}"
        )
    return {
        "num_classes": linears[-1].out_features,
        "in_channels": convolutions[0].in_channels,
    }


def _check_name(name: str, header: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Makes sure that `load` will build what is saved under a name."""
    with torch.device("meta"):
        known = models.build(name, header["num_classes"], header["in_channels"])
    drop_blocks(known, header.get("dropped", {}))
    split_layers(known, header.get("decoupled", {}))
    match_structure(known, state)
    try:
        check_match(known, state, Path(name))
    except ValueError as error:
        raise ValueError(_not_of_name(name, error)) from error


def _not_of_name(name: str, error: ValueError) -> str:
    return (
        f"save: name must be that of the network, or left out, got {shown(name)}, which it is not: "
        f"{error}"
    )


def _check_header(header: Mapping[str, Any], path: Path) -> None:
    name = header.get("model")
    if name == "":
        return
    if name not in models.names():
        raise ValueError(
            f"{path}: model in the header must be one of {', '.join(models.names())} or empty, "
            f"got {shown(name)}"
        )
    for key in ("num_classes", "in_channels"):
        count = header.get(key)
        if type(count) is not int or not 1 <= count <= MAX_COUNT:
            raise ValueError(
                f"{path}: {key} in the header must be an integer from 1 to {MAX_COUNT}, "
                f"got {shown(count)}"
            )


def existing(path: str | os.PathLike[str]) -> Path:
    """The path of a checkpoint that is there.

    Raises:
        FileNotFoundError: it is not.
        ValueError: it is called as programs in ONNX are.
    """
    path = Path(path)
    if path.is_dir():
        raise FileNotFoundError(f"checkpoint must be a file, got the folder {path}")
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    if path.suffix.lower() == ".onnx":
        raise ValueError(
            f"checkpoint must hold weights of torch, got the ONNX file {path}; give the file of "
            "the network that it was exported from"
        )
    return path


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file that `save` wrote, whole and checked."""
    tensors, header = read_tensors(path)
    mark = header.get("format") if isinstance(header, dict) else None
    if mark not in (FORMAT, _FORMAT_UNCHECKED):
        raise ValueError(f"{path} was not written by fsc.save: it lacks the format mark {FORMAT!r}")
    _check_header(header, path)
    if CHECKSUM not in header:
        if mark == FORMAT:
            raise ValueError(f"{path} is damaged: its header holds no checksum")
        warnings.warn(
            f"{path} was written without a checksum, so that damage would go unnoticed; fsc.save "
            "writes it with one",
            CompressionWarning,
            stacklevel=1,
        )
    return tensors, header
