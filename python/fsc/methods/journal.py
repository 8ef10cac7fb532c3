"""Solved layers on disk, so that an interrupted compression goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fsc.files import read_json, write_atomically, write_json
from fsc.layers.layer_problem import Solution

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
    uninterrupted run.

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
        path = self._identity_path()
        found = read_json(path, "journal") if path.is_file() else self.identity
        changed = [name for name in self.identity if found.get(name) != self.identity[name]]
        if changed:
            raise ValueError(
                f"journal must belong to the same compression, got {self.folder}, which differs "
                f"in {', '.join(changed)}"
            )

    def find(self, name: str, device: torch.device | str = "cpu") -> Solution | None:
        """The solution of a layer, where it was solved before, on the device of the layer."""
        path = self._path(name)
        if not path.is_file():
            return None
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
            found: dict[str, Any] = {key: file.get_tensor(key).to(device) for key in file.keys()}
        found |= {key: float.fromhex(metadata[key]) for key in _NUMBERS}
        return Solution(**{"bias": None} | found)

    def add(self, name: str, solution: Solution) -> None:
        """Keeps the solution of a layer; the first one makes the folder."""
        if not self._identity_path().is_file():
            write_json(self._identity_path(), self.identity)
        found = {key: getattr(solution, key) for key in _TENSORS}
        tensors = {key: value.contiguous() for key, value in found.items() if value is not None}
        metadata = {key: getattr(solution, key).hex() for key in _NUMBERS}
        write_atomically(
            self._path(name),
            lambda path: safetensors.torch.save_file(tensors, path, metadata),
        )

    def _identity_path(self) -> Path:
        return self.folder / "identity.json"

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
