"""The state of a training on disk, so that an interrupted one goes on with the same bits."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fsc.methods.journal import Journal
from fsc.networks.tensor_files import CHECKSUM, read_tensors, write_tensors
from fsc.warning import CompressionWarning

_FILE = "training.safetensors"

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
        except ValueError as error:
            warnings.warn(
                f"{error}; it is dropped, and the training starts from the beginning",
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
        self._journal.sign()
        write_tensors(self._journal.folder / _FILE, tensors, dict(counts))


def in_words(folder: Path) -> str:
    """What the folder of a journal holds: "12 solved layers", "150 steps of MiR" or nothing."""
    names = {path.name for path in folder.glob("*.safetensors")}
    if _FILE not in names:
        return f"{len(names)} solved layers" if names else ""
    try:
        return f"{_read(folder / _FILE)[1]['step']} steps of MiR"
    except ValueError:
        return ""  # As good as nothing: whoever goes on is told that it is damaged.


def _read(path: Path) -> State:
    tensors, header = read_tensors(path)
    if not isinstance(header, dict) or CHECKSUM not in header:
        raise ValueError(f"{path} is damaged: it holds no checksum")
    return tensors, {key: count for key, count in header.items() if key != CHECKSUM}
