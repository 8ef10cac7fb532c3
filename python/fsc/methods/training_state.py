"""The state of a training on disk, so that an interrupted one goes on with the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fsc.methods.block_choice import ENTRY as BLOCKS
from fsc.methods.journal import Journal, is_solution
from fsc.networks.tensor_files import read_header

_ENTRY = "training"
# Where a training is: steps of the lesson, run, part, steps of all.
_PLACE = ("step", "retry", "part", "taken")

# Names of tensors -> tensors; names of counts -> counts.
State = tuple[dict[str, Tensor], dict[str, int]]


class TrainingState:
    """One entry of a journal, overwritten as the training goes on.

    Args:
        journal: that holds it; None: nothing is kept and nothing found.
    """

    def __init__(self, journal: Journal | None) -> None:
        """Only remembers where."""
        self._journal = journal

    def find(self) -> State | None:
        """What was kept last, on the CPU; a damaged or older file is dropped with a warning.

        Raises:
            OSError: a damaged file cannot be removed.
        """
        if self._journal is None:
            return None
        otherwise = "the training starts from the beginning"
        entry = self._journal.read(_ENTRY, otherwise, dict.fromkeys(_PLACE, int))
        if entry is None:
            return None
        tensors, header = entry
        return tensors, {key: count for key, count in header.items() if type(count) is int}

    def keep(self, tensors: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        """Writes a state in the place of the last one.

        Raises:
            OSError: the file cannot be written.
        """
        if self._journal is not None:
            self._journal.write(_ENTRY, tensors, counts)

    def drop(self) -> None:
        """Removes what was kept, once the training is over and what it made is kept elsewhere.

        Raises:
            OSError: the file cannot be removed.
        """
        if self._journal is not None:
            self._journal.remove(_ENTRY)


def values_of(network: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a network, as `put_back` takes them."""
    state = network.state_dict()
    return {f"student.{key}": value for key, value in state.items() if isinstance(value, Tensor)}


def put_back(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Gives a network of the same making the values that `values_of` had, in its own layout.

    Raises:
        ValueError: a value is missing, or of another shape.
    """
    state = network.state_dict()  # with the versions that modules ask for
    for key, value in state.items():
        if isinstance(value, Tensor):
            found = values.get(f"student.{key}")
            if found is None or found.shape != value.shape:
                got = "none" if found is None else f"one of {list(found.shape)}"
                raise ValueError(
                    f"journal must hold {key} {list(value.shape)} of the student in its training, "
                    f"got {got}; give another folder, or delete this one"
                )
            state[key] = found
    network.load_state_dict(state)


def in_words(folder: Path) -> str:
    """What a folder of a journal holds: "12 solved layers", "150 steps of KD", both, nothing.

    Entries that are no layers, as those of rounds, and files that cannot be read are "other files".
    """
    # Hidden files are what a killed process had not finished writing.
    headers = {path.stem: read_header(path) for path in folder.glob("[!.]*.safetensors")}
    training = headers.pop(_ENTRY, None)
    layers = sum(map(is_solution, headers.values()))
    others = sum(name != BLOCKS and not is_solution(said) for name, said in headers.items())
    found = [_counted(layers, "solved layer")] if layers else []
    # As good as nothing where it is damaged: whoever goes on is told.
    if isinstance(training, dict) and training.get("step"):
        # Those of all parts and runs; a training of one part that never diverged has no others.
        number = training["taken" if "taken" in training else "step"]
        steps, method = _counted(number, "step"), _method_of(training)
        found.append(steps if method is None else f"{steps} of {method}")
    if others:
        found.append(_counted(others, "other file" if found else "file"))
    return " and ".join(found)


def _method_of(header: dict[str, Any]) -> str | None:
    """The method whose training it is, where its journal says so."""
    found: Any = header
    for key in ("identity", "method", "type"):
        found = found.get(key) if isinstance(found, dict) else None
    return None if found is None else str(found)


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
