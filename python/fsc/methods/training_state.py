"""The state of a training on disk, so that an interrupted one goes on with the same bits."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from fsc.files import write_atomically, write_json
from fsc.methods.journal import Journal, fingerprint
from fsc.warning import CompressionWarning

_FILE = "training.safetensors"
_CHECKSUM = "checksum"

# Names of tensors -> tensors; names of counts -> counts.
State = tuple[dict[str, Tensor], dict[str, int]]


class TrainingState:
    """One file in the folder of a journal, overwritten as the training goes on.

    Args:
        journal: whose folder and identity it shares; None: nothing is kept and nothing found.
    """

    def __init__(self, journal: Journal | None) -> None:
        """Only remembers where."""
        self._journal = journal

    def find(self) -> State | None:
        """What was kept last, on the CPU; a damaged file is dropped with a warning."""
        if self._journal is None:
            return None
        path = self._journal.folder / _FILE
        if not path.is_file():
            return None
        try:
            return _read(path)
        except (safetensors.SafetensorError, OSError, ValueError) as error:
            warnings.warn(
                f"{path} is damaged, so that the training starts from the beginning: {error}",
                CompressionWarning,
                stacklevel=2,
            )
            path.unlink(missing_ok=True)
            return None

    def keep(self, tensors: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        """Writes a state in the place of the last one; the first one makes the folder.

        Raises:
            OSError: the file cannot be written.
        """
        if self._journal is None:
            return
        identity = self._journal.folder / "identity.json"
        if not identity.is_file():
            write_json(identity, self._journal.identity)
        # A clone each: safetensors refuses tensors that share memory, as tied weights do.
        kept = {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}
        metadata = {key: str(count) for key, count in counts.items()}
        metadata[_CHECKSUM] = _checksum(kept, metadata)
        write_atomically(
            self._journal.folder / _FILE,
            lambda path: safetensors.torch.save_file(kept, path, metadata),
        )


def in_words(folder: Path) -> str:
    """What the folder of a journal holds: "12 solved layers", "150 steps of MiR" or nothing."""
    names = {path.name for path in folder.glob("*.safetensors")}
    if _FILE not in names:
        return f"{len(names)} solved layers" if names else ""
    try:
        return f"{_read(folder / _FILE)[1]['step']} steps of MiR"
    except (safetensors.SafetensorError, OSError, ValueError):
        return ""  # As good as nothing: whoever goes on is told that it is damaged.


def _read(path: Path) -> State:
    with safetensors.safe_open(path, "pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {key: file.get_tensor(key) for key in file.keys()}
    if metadata.pop(_CHECKSUM, None) != _checksum(tensors, metadata):
        raise ValueError("its checksum does not fit")
    return tensors, {key: int(count) for key, count in metadata.items()}


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    names = sorted(tensors)
    values = fingerprint(tensors[name] for name in names)
    text = json.dumps([values, names, sorted(metadata.items())])
    return hashlib.sha256(text.encode()).hexdigest()
