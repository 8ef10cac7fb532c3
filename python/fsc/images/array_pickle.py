"""Pickles of plain containers and arrays of integers, in which the batches of CIFAR are."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

# Stands for the class of arrays: nothing that could be called.
_ARRAY = "numpy.ndarray"


class _ArrayUnpickler(pickle.Unpickler):
    """Admits plain containers and numpy arrays, which is all that the CIFAR batches hold."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if module == "numpy" and name == "ndarray":
            return _ARRAY
        if module == "numpy" and name == "dtype":
            return _number_type
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not admitted")


def _empty_array(kind: object, shape: object, code: object) -> np.ndarray:
    """What numpy makes of an array before its values come: it holds nothing, whatever is asked."""
    if kind is not _ARRAY or shape != (0,):
        raise pickle.UnpicklingError("it asks for an array in another way than numpy does")
    return np.empty(0, np.uint8)


def _number_type(code: str, *flags: bool) -> np.dtype:
    if code not in ("u1", "i8", "i4"):
        raise pickle.UnpicklingError("it asks for an array of something else than integers")
    return np.dtype(code, *flags)


def unpickled(path: Path) -> dict[str, Any]:
    """The dictionary that a batch of CIFAR holds, without anything being called.

    Raises:
        UnpicklingError: it asks for something else than containers and arrays of integers.
        ValueError: it holds something else.
    """
    with open(path, "rb") as file:
        # The files were written by Python 2, whose strings are bytes; latin1 keeps each byte.
        content = _ArrayUnpickler(file, encoding="latin1").load()
    if not isinstance(content, dict):
        raise ValueError(f"expected a dictionary, got {type(content).__name__}")
    return content
