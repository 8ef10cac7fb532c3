"""Networks out of a file, for `bench/cases.py`, whose docstring says what the file must have."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn


class Unfit(Exception):
    """A file does not have what this script needs; the sentence says what."""


class Cases:
    """The networks of a file, by their keys, built anew each time."""

    def __init__(self, path: Path) -> None:
        """Run the file, and `neutral.py` where that lies beside it."""
        self._networks = _run(path, "CASES", "build")
        beside = path.with_name("neutral.py")
        self._zeros = _run(beside, "zero", "NOT_NEUTRAL") if beside.is_file() else None

    def __iter__(self) -> Iterator[Any]:
        """The keys."""
        return iter(self._networks.CASES)

    def build(self, key: object) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """The network of a key, and what it takes."""
        found: tuple[nn.Module, tuple[Tensor, ...]] = self._networks.build(key)
        return found

    def neutral(self, key: object) -> tuple[nn.Module, tuple[Tensor, ...]] | None:
        """The same with every second channel zero; None where that is not known, or not neutral."""
        if self._zeros is None or key in self._zeros.NOT_NEUTRAL:
            return None
        network, inputs = self.build(key)
        return self._zeros.zero(network, key, inputs), inputs


def _run(path: Path, *needed: str) -> ModuleType:
    """A file as a module that has what is needed."""
    if path.suffix != ".py" or not path.is_file():
        raise Unfit(f"PATH must be a file that ends in .py, got {path}")
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    for name in needed:
        if not hasattr(module, name):
            raise Unfit(f"PATH must define {' and '.join(needed)}, got no {name} in {path}")
    return module
