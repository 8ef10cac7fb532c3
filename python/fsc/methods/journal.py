"""Solved layers on disk, so that an interrupted compression goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fsc.files import read_json, write_json
from fsc.layers.layer_problem import Solution
from fsc.networks.tensor_files import CHECKSUM, read_tensors, write_tensors
from fsc.warning import CompressionWarning

_TENSORS = ("weight", "bias", "channels", "filters")
_NUMBERS = ("error_before", "error", "error_of_zero")


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of the values, to tell tensors of one shape apart."""
    digest = hashlib.sha256()
    for value in tensors:
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


class Journal:
    """One file a solved layer, in a folder of its own.

    The networks are run again from the images when a compression goes on; only solutions are kept,
    and those of a layer depend on nothing but the layers before. So the result has the bits of an
    uninterrupted run. Every file holds a checksum: a damaged one is dropped with a warning, and its
    layer solved again.

    Args:
        folder: where the files are.
        identity: what two runs must share to be the same compression, as JSON would hold it.

    Raises:
        ValueError: the folder holds the journal of another compression.
        OSError: the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: dict[str, Any]) -> None:
        """Takes up what the folder holds."""
        self.folder = Path(folder)
        # As JSON will give it back: tuples as lists, keys as texts.
        self.identity = json.loads(json.dumps(identity))
        self._check_identity()

    def find(self, name: str, device: torch.device | str = "cpu") -> Solution | None:
        """The solution of a layer, where it was solved before, on the device of the layer.

        Raises:
            ValueError: the entry belongs to another compression.
            OSError: a damaged entry cannot be removed.
        """
        path = self._path(name)
        if not path.is_file():
            return None
        try:
            tensors, header = _read_entry(path)
        except ValueError as error:
            _drop(path, error)
            return None
        if header["identity"] != _digest(self.identity):
            raise ValueError(
                f"journal must belong to the same compression, got {path} of another one"
            )
        found: dict[str, Any] = {key: value.to(device) for key, value in tensors.items()}
        found |= {key: float.fromhex(header[key]) for key in _NUMBERS}
        return Solution(**{"bias": None} | found)

    def add(self, name: str, solution: Solution) -> None:
        """Keeps the solution of a layer; the first one makes the folder.

        Raises:
            OSError: the file cannot be written; what was kept before stays.
        """
        self.sign()
        found = {key: getattr(solution, key) for key in _TENSORS}
        header = {key: getattr(solution, key).hex() for key in _NUMBERS}
        # Each entry says itself where it belongs: damage to the one file that says it for all must
        # not cost them.
        header["identity"] = _digest(self.identity)
        tensors = {key: value for key, value in found.items() if value is not None}
        write_tensors(self._path(name), tensors, header)

    def sign(self) -> None:
        """Writes whose journal it is, where that is not written yet.

        Raises:
            OSError: the file cannot be written.
        """
        if not self._identity_path().is_file():
            write_json(self._identity_path(), self.identity | {CHECKSUM: _digest(self.identity)})

    def _check_identity(self) -> None:
        path = self._identity_path()
        if not path.is_file():
            return
        try:
            found = _read_identity(path)
        except ValueError as error:
            _drop(path, error)
            return
        changed = [name for name in self.identity if found.get(name) != self.identity[name]]
        if changed:
            raise ValueError(
                f"journal must belong to the same compression, got {self.folder}, which differs "
                f"in {', '.join(changed)}"
            )

    def _identity_path(self) -> Path:
        return self.folder / "identity.json"

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"


def _digest(identity: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _read_identity(path: Path) -> dict[str, Any]:
    found = read_json(path, "journal")
    if not isinstance(found, dict) or found.pop(CHECKSUM, None) != _digest(found):
        raise ValueError(f"{path} is damaged: it has not the checksum that it was written with")
    return found


def _read_entry(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, header = read_tensors(path)
    if not isinstance(header, dict) or CHECKSUM not in header:
        raise ValueError(f"{path} is damaged: it holds no checksum")
    return tensors, header


def _drop(path: Path, error: ValueError) -> None:
    sentence = f"{error}; it is dropped, and what it held is made again"
    warnings.warn(sentence, CompressionWarning, stacklevel=1)
    path.unlink()
