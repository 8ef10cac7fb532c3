"""Tensors on disk with a header and a checksum over both, so that damage never goes unnoticed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fsc.files import write_atomically

CHECKSUM = "sha256"
# One key holds all: safetensors writes several in an order that changes from run to run.
_KEY = "fsc"
# As safetensors reports a file that it cannot read.
_DAMAGE = (SafetensorError, OSError, RuntimeError, ValueError)


def checksum(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """SHA-256 of a header and of the names, dtypes, shapes and bytes of tensors.

    Args:
        tensors: on the CPU, in any order.
        header: what JSON can express.
    """
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_tensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Tensor], header: Mapping[str, Any]
) -> None:
    """Write tensors and a header as one safetensors file that `read_tensors` checks.

    Args:
        path: the file; it appears complete or not at all.
        tensors: of any device; views and tensors that share memory are written each for itself.
        header: what JSON can express; the key sha256 is taken.

    Raises:
        TypeError: JSON cannot express the header.
        ValueError: the header holds NaN or Inf.
        OSError: the file cannot be written.
    """
    content = content_of(tensors, header)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def content_of(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """What `write_tensors` writes; raises what it does, but for the file."""
    # A clone each: safetensors refuses tensors that share memory, as slices and tied weights do.
    found = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in tensors.items()
    }
    # As JSON will give it back: tuples as lists, keys as texts.
    plain = json.loads(json.dumps(dict(header), allow_nan=False))
    text = json.dumps(plain | {CHECKSUM: checksum(found, plain)})
    return safetensors.torch.save(found, metadata={_KEY: text})


def read_tensors(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], Any]:
    """Read a safetensors file; one that holds a checksum is checked.

    Returns:
        The tensors, on the CPU, and the header, which holds the checksum under sha256 if there is
        one; None if `write_tensors` did not write the file.

    Raises:
        ValueError: the file is damaged or no safetensors file.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ValueError(f"{path} is damaged or no safetensors file: it is no file")
    try:
        with safe_open(path, framework="pt") as file:
            header = _header(file)
            # A clone each: in the file they begin at any byte, and what reads them rounds otherwise
            # where a tensor does not begin as those of torch do.
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}
    except _DAMAGE as error:
        line = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"{path} is damaged or no safetensors file: {line}") from error
    if isinstance(header, dict) and CHECKSUM in header:
        described = {key: value for key, value in header.items() if key != CHECKSUM}
        if header[CHECKSUM] != checksum(tensors, described):
            raise ValueError(
                f"{path} is damaged: its content has not the checksum that it was written with"
            )
    return tensors, header


def read_header(path: str | os.PathLike[str]) -> Any:
    """Read the header that `write_tensors` wrote, unchecked; None where there is none to read."""
    if not Path(path).is_file():
        return None
    try:
        with safe_open(Path(path), framework="pt") as file:
            return _header(file)
    except _DAMAGE:
        return None


def _header(file: Any) -> Any:
    return json.loads((file.metadata() or {}).get(_KEY, "null"))


def has(header: Mapping[str, Any], key: str, kind: type) -> bool:
    """Whether a header says something of a type; floats are in hexadecimal digits, as text."""
    value = header.get(key)
    if kind is not float:
        return type(value) is kind
    try:
        float.fromhex(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
    return True
