"""Networks on disk: compressed ones with their structure, and pretrained ones of others."""

from __future__ import annotations

import copy
import json
import os
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as serialise
from torch import Tensor, nn

from fsc import models
from fsc.files import write_atomically
from fsc.networks.structure import match_structure

FORMAT = "fsc-1"

_NUM_NAMED_FAULTS = 3
_MAX_COUNT = 2**31 - 1
_TORCH_ERRORS = (
    OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, AttributeError, IndexError,
    UnicodeError, pickle.UnpicklingError, zipfile.BadZipFile,
)  # fmt: skip


def save(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    name: str,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a network, of whatever widths, as one safetensors file that `load` rebuilds.

    Args:
        model: a network made by `fsc.models.build(name)` or one of the user's own; its channels may
            have been removed and its batch normalization folded.
        path: the file; it appears complete or not at all.
        name: the builder's name, or "" for a network of the user's own.
        metadata: anything that JSON can express, to be read again with `read_metadata`; the keys
            format, model, num_classes and in_channels are taken.

    Raises:
        ValueError: the name is unknown, a key is taken, or a weight is NaN or Inf.
        TypeError: JSON cannot express the metadata.
        OSError: the file cannot be written.
    """
    header: dict[str, Any] = {"format": FORMAT, "model": name}
    if name:
        models.family(name)
        header |= _ends(model)
    extra = dict(metadata or {})
    taken = sorted({"format", "model", "num_classes", "in_channels"} & set(extra))
    if taken:
        raise ValueError(f"save: metadata must not use the key {taken[0]!r}")
    text = json.dumps(header | extra, allow_nan=False)
    # A clone each: safetensors refuses tensors that share memory, as slices and tied weights do.
    tensors = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in model.state_dict().items()
    }
    _check_finite(tensors, "save: model")
    content = serialise(tensors, metadata={"fsc": text})
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def read_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the metadata of a file that `save` wrote: model, num_classes, in_channels, ....

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or was not written by `save`, or its model, num_classes or
            in_channels is missing or none that fsc can build.
    """
    path = _existing(path)
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {}).get("fsc", "null"))
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {_line(error)}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ValueError(f"{path} was not written by fsc.save: it lacks the format mark {FORMAT!r}")
    _check_header(header, path)
    return header


def load(path: str | os.PathLike[str], model: nn.Module | None = None) -> nn.Module:
    """Rebuild a network that `save` wrote, with the widths it was saved with.

    No code is read from the file: the structure comes from the builder, or from `model`, and the
    widths from the shapes of the tensors.

    Args:
        path: the file.
        model: for a network of the user's own, the same network before compression; it is copied.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds NaN or Inf, or does not match the network, or `model`
            is missing.
    """
    path = _existing(path)
    header = read_metadata(path)
    if model is not None:
        model = copy.deepcopy(model).cpu()
    elif header["model"]:
        # Nothing is allocated for sizes that only the header claims.
        model = models.skeleton(header["model"], header["num_classes"], header["in_channels"])
    else:
        raise ValueError(f"load: model must be given, because {path} names no network of fsc")
    state = _read_safetensors(path)
    _check_finite(state, str(path))
    match_structure(model, state)
    _check_match(model, state, path)
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval()


def load_pretrained(model: nn.Module, path: str | os.PathLike[str]) -> nn.Module:
    """Load the weights of a dense network in place, strictly.

    Args:
        model: the network, with the shapes of the file.
        path: `.safetensors`, or `.pt` / `.pth` read with weights_only=True: a state dict, or one
            under the key "state_dict"; the prefix "module." of parallel training is dropped, and
            half precision is widened to float32.

    Returns:
        The same network, in evaluation mode.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, holds no weights, holds NaN or Inf, or does not match;
            the network is then unchanged.
    """
    path = _existing(path)
    reader = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    state = {key: _widened(value) for key, value in reader(path).items()}
    if all(key.startswith("module.") for key in state) and not hasattr(model, "module"):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    _check_finite(state, str(path))
    _check_match(model, state, path)
    model.load_state_dict(state, strict=True)
    return model.eval()


def _ends(model: nn.Module) -> dict[str, int]:
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    if not convolutions or not linears:
        raise ValueError(
            f"save: name must be '' for {type(model).__name__}, which fsc cannot build"
        )
    return {
        "num_classes": linears[-1].out_features,
        "in_channels": convolutions[0].in_channels,
    }


def _check_header(header: Mapping[str, Any], path: Path) -> None:
    name = header.get("model")
    if name == "":
        return
    if name not in models.names():
        raise ValueError(
            f"{path}: model in the header must be one of {', '.join(models.names())} or empty, "
            f"got {name!r}"
        )
    for key in ("num_classes", "in_channels"):
        count = header.get(key)
        if type(count) is not int or not 1 <= count <= _MAX_COUNT:
            raise ValueError(
                f"{path}: {key} in the header must be an integer from 1 to {_MAX_COUNT}, "
                f"got {count!r}"
            )


def _existing(path: str | os.PathLike[str]) -> Path:
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    return path


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is damaged or no safetensors file: {_line(error)}") from error


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _TORCH_ERRORS as error:
        # What torch says here advises loading it unsafely.
        raise ValueError(f"{path} is damaged or holds more than weights") from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must hold a state dict, got {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(
                f"{path} must hold tensors only, got {type(value).__name__} at {key!r}"
            )
    return content


def _widened(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value


def _check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    for key, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{where}: weights must be finite, got NaN or Inf in {key}")


def _check_match(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    expected = model.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} {list(state[key].shape)} instead of {list(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    kinds = [
        f"{key} {state[key].dtype} instead of {expected[key].dtype}"
        for key in expected
        if key in state and state[key].is_floating_point() != expected[key].is_floating_point()
    ]
    faults = {
        "missing": [key for key in missing if not key.endswith("num_batches_tracked")],
        "unexpected": unexpected,
        "of another shape": shapes,
        "of another dtype": kinds,
    }
    named = [f"{what}: {_first(keys)}" for what, keys in faults.items() if keys]
    if named:
        raise ValueError(f"{path} does not match {type(model).__name__}; {'; '.join(named)}")


def _first(keys: list[str]) -> str:
    more = len(keys) - _NUM_NAMED_FAULTS
    return ", ".join(keys[:_NUM_NAMED_FAULTS]) + (f" and {more} more" if more > 0 else "")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
