"""Weights that others saved: found in whatever lies around them, and never unpickled unsafely."""

from __future__ import annotations

import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fsc.networks.checkpoint import existing
from fsc.networks.states import check_finite, check_match, versioned
from fsc.networks.tensor_files import read_tensors
from fsc.networks.wrappers import unwrap
from fsc.warning import CompressionWarning

_TORCH_ERRORS = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, AttributeError, IndexError,
    UnicodeError, MemoryError, struct.error, pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip
_NUM_NAMED = 3
_POINTER = b"version https://git-lfs"
_PAGE = (b"<!doctype html", b"<html")
# The segment that torch.compile puts into the names of what it wraps, wherever that stands.
_COMPILED = "_orig_mod"


def load_pretrained(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load the weights of a dense network in place, strictly.

    Args:
        model: the network, with the shapes of the file.
        path: `.safetensors`, or `.pt` / `.pth` read with weights_only=True: a state dict, or a
            dict with one among its entries, whatever its key. Names that wrappers put in front
            ("module.", "_orig_mod.", "model.", ...) are dropped, and half precision is widened to
            float32.

    Returns:
        The same network, in evaluation mode.

    Warns:
        CompressionWarning: a value of a `.pt` is not what was written, by its checksum.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, a stand-in for another one, or more than weights, holds
            none or several state dicts, holds NaN or Inf, or does not match; the network is then
            unchanged.
    """
    inner = unwrap(model)
    state = {key: _widened(value) for key, value in _state_for(inner, path).items()}
    # Shapes first: a value of the file may repeat one number over more than fits into memory.
    check_match(inner, state, Path(path))
    check_finite(state, str(path))
    inner.load_state_dict(versioned(state, inner), strict=True)
    return model.eval()


@dataclass(frozen=True)
class Sizes:
    """In which sizes a checkpoint differs from a network.

    Attributes:
        num_classes: of the checkpoint; None: those of the network, or something else differs.
        in_channels: of the images that it is for; None likewise.
    """

    num_classes: int | None
    in_channels: int | None


def sizes_in(model: nn.Module, path: str | os.PathLike[str]) -> Sizes:
    """The numbers of classes and of input channels of a checkpoint, where it has others.

    Args:
        model: the network with another head, or another first convolution.
        path: as for `load_pretrained`.

    Returns:
        The rows of the tensors that have other numbers of rows than the network's, and the columns
        of the filters that have as many rows, each if that is one number against one.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, as for `load_pretrained`.
    """
    expected = unwrap(model).state_dict()
    rows, columns = set(), set()
    for key, value in _state_for(unwrap(model), path).items():
        if key not in expected or not value.ndim or value.ndim != expected[key].ndim:
            continue
        own, others = value.shape, expected[key].shape
        if own[0] == others[0] and value.ndim == 4 and own[2:] == others[2:]:
            columns |= {(own[1], others[1])} if own[1] != others[1] else set()
        elif own != others:
            rows.add((own[0], others[0]))
    if rows & columns:  # a layer that was cut, and the next one
        return Sizes(None, None)
    return Sizes(*(next(iter(each))[0] if len(each) == 1 else None for each in (rows, columns)))


def _state_for(model: nn.Module, path: str | os.PathLike[str]) -> Mapping[str, Tensor]:
    """What a file holds, under the names of a network where it has them."""
    path = existing(path)
    _check_is_no_stand_in(path)
    found = read_tensors(path)[0] if path.suffix == ".safetensors" else _read_torch(path)
    return _without_wrappers(found, model.state_dict())


def _check_is_no_stand_in(path: Path) -> None:
    """Refuses what downloads leave under the name of a checkpoint."""
    with open(path, "rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith(_POINTER):
        raise ValueError(
            f"{path} must be the checkpoint itself, got a pointer of Git LFS to it; fetch it with "
            "`git lfs pull`"
        )
    if start.startswith(_PAGE):
        raise ValueError(
            f"{path} must be a checkpoint, got an HTML page; take the link that downloads the file"
        )


def _read_torch(path: Path) -> dict[str, Tensor]:
    if _is_program(path):
        raise ValueError(
            f"{path} must hold weights, got a program of TorchScript or torch.export; save the "
            "weights of the network it was made from: torch.save(model.state_dict(), 'weights.pt')"
        )
    _check_is_not_packed(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _TORCH_ERRORS as error:
        # What torch says here advises loading it unsafely.
        asked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if asked is None:
            raise ValueError(f"{path} is damaged or no checkpoint of torch") from error
        raise ValueError(
            f"{path} must hold weights alone, got {asked[1]}, which is not unpickled, because that "
            "may run any code; where the file was made, save a state dict instead: "
            "torch.save(model.state_dict(), 'weights.pt')"
        ) from error
    _tell_of_damage(path)
    state = _state_dict(content, path)
    for key, value in state.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_nested:
            raise ValueError(f"{path} must hold dense weights, got {_form(value)} at {key!r}")
    return state


def _form(value: Tensor) -> str:
    """What a tensor is that is not dense."""
    if value.is_meta:
        return "a tensor without values"
    if value.is_quantized:
        return "a quantized tensor"
    return f"a tensor of the layout {value.layout}" if not value.is_nested else "a nested tensor"


def _check_is_not_packed(path: Path) -> None:
    """Refuses archives that unpack to more than they are; torch packs nothing.

    Raises:
        ValueError: it does.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(record.file_size for record in archive.infolist())
    except _TORCH_ERRORS:
        return  # no archive, or one that torch refuses too
    if unpacked > path.stat().st_size:
        raise ValueError(
            f"{path} must hold its records as they are, as torch.save writes them, got "
            f"{unpacked:,} bytes packed into {path.stat().st_size:,}"
        )


def _tell_of_damage(path: Path) -> None:
    """Warns of records that are not what was written; torch reads them in silence."""
    try:
        with zipfile.ZipFile(path) as archive:
            record = archive.testzip()
    except _TORCH_ERRORS:
        return  # of before there were archives: nothing tells
    if record is not None:
        warnings.warn(
            f"{path} is damaged, or was written by a torch that was told to leave checksums out: "
            f"its record {record!r} has another one; where you can, fetch it again",
            CompressionWarning,
            stacklevel=5,
        )


def _is_program(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    try:
        names = zipfile.ZipFile(path).namelist()
    except (OSError, ValueError, zipfile.BadZipFile):
        return False
    # The first lies in every archive of TorchScript, the second in those of torch.export.
    return any(name.endswith(("/constants.pkl", "/archive_format")) for name in names)


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The one state dict in what a file holds, be it all of it or one entry among others."""
    if not isinstance(content, Mapping) or not content:
        kind = "an empty dict" if content == {} else type(content).__name__
        raise ValueError(f"{path} must hold a state dict, got {kind}")
    if _is_state(content):
        return dict(content)
    found = {str(key): entry for key, entry in content.items() if _is_state(entry)}
    if len(found) == 1:
        return dict(next(iter(found.values())))
    if found:
        raise ValueError(
            f"{path} must hold one state dict, got {' and '.join(found)}; save the one that you "
            "mean alone: torch.save(torch.load(path, weights_only=True)"
            f"[{next(iter(found))!r}], 'weights.pt')"
        )
    others = [
        f"{type(entry).__name__} at {key!r}"
        for key, entry in content.items()
        if not isinstance(entry, Tensor)
    ]
    raise ValueError(
        f"{path} must hold a state dict, tensors by name, alone or as one entry of a dict, "
        f"got {', '.join(others[:_NUM_NAMED]) or 'names that are no text'}"
    )


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(key, str) and isinstance(v, Tensor) for key, v in content.items())
    )


def _without_wrappers(
    state: Mapping[str, Tensor], expected: Collection[str]
) -> Mapping[str, Tensor]:
    """Drops what wrappers put before the names of the network, if its names then appear."""
    found = {_plain_name(key): value for key, value in state.items()}
    while not any(key in expected for key in found):
        heads = {key.partition(".")[0] for key in found}
        found = {key.partition(".")[2]: value for key, value in found.items()}
        if len(heads) != 1 or "" in found:
            # Another network: the sentence about it names what the file names.
            return state
    return found


def _plain_name(key: str) -> str:
    return ".".join(part for part in key.split(".") if part != _COMPILED)


def _widened(value: Tensor) -> Tensor:
    is_half = value.dtype in (torch.float16, torch.bfloat16)
    # A view that repeats its numbers is left alone; no network has its shape.
    return value.float() if is_half and not _is_view_of_less(value) else value


def _is_view_of_less(value: Tensor) -> bool:
    return value.untyped_storage().nbytes() < value.numel() * value.element_size()
