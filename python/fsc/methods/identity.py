"""What makes two compressions the same, and in which words they differ."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import fsc_ext

# Of what is described by several values, the one that says the most.
_FIRST = ("type", "name", "number")
_LONGEST = 40


@dataclass(frozen=True)
class Difference:
    """One thing that differs between two compressions.

    Attributes:
        name: of the thing, its parts joined by dots: "seed", "method.steps".
        before: its value in the one that was interrupted.
        now: its value in the one that is to go on.
    """

    name: str
    before: Any
    now: Any

    @property
    def is_short(self) -> bool:
        """Whether both values tell a person something."""
        values = (self.before, self.now)
        plain = all(isinstance(value, str | int | float) for value in values)
        return plain and max(len(str(value)) for value in values) <= _LONGEST

    def __str__(self) -> str:
        """In words: "seed 0, not 1", "another teacher"."""
        if self.is_short:
            return f"{self.name} {self.before}, not {self.now}"
        return f"another {self.name}"


class AnotherCompression(ValueError):
    """A journal belongs to another compression than the one that is to go on with it.

    Attributes:
        before: the identity of the compression whose journal it is.
        now: that of the one that was to go on.
    """

    def __init__(self, folder: Path, before: dict[str, Any], now: dict[str, Any]) -> None:
        """Says what differs, and what can be done."""
        self.before, self.now = before, now
        told = "; ".join(str(difference) for difference in differences(before, now))
        super().__init__(
            f"journal must belong to the same compression, got {folder} of one with {told}:"
            " pass what that one was given, or another folder"
        )


def described(method: object) -> dict[str, Any]:
    """The kind of a method and its hyper-parameters."""
    return {"type": type(method).__name__, **hyper_parameters(method)}


def hyper_parameters(method: object) -> dict[str, Any]:
    """Those of a method, nested dataclasses named by their class."""
    found: dict[str, Any] = {}
    for name, value in vars(method).items():
        nested = hasattr(value, "__dataclass_fields__")
        found[name] = described(value) if nested else value
    return found


def versions() -> dict[str, str]:
    """Versions that a number in a report depends on."""
    return {
        "python": platform.python_version(),
        "fsc": importlib.metadata.version("fsc-ext"),
        "numpy": importlib.metadata.version("numpy"),
        "torch": torch.__version__,
        "fsc_ext": ", ".join(f"{k} {v}" for k, v in fsc_ext.build_info().items()),
    }


def as_json(value: Any) -> Any:
    """What JSON gives back for a value: tuples as lists, keys as texts, sets in order."""
    return json.loads(json.dumps(value, default=_simpler))


def differences(before: dict[str, Any], now: dict[str, Any], of: str = "") -> list[Difference]:
    """What differs between two identities, as JSON gives them.

    Where things of two types or two names are compared, their other values do not matter.

    Example:
        >>> before = {"seed": 0, "method": {"type": "MiR", "steps": 400}}
        >>> [str(d) for d in differences(before, {"seed": 1, "method": {"type": "FSKD"}})]
        ['seed 0, not 1', 'method MiR, not FSKD']
    """
    for key in _FIRST:
        if of and before.get(key) != now.get(key):
            return [Difference(of, before.get(key), now.get(key))]
    found = []
    for key in dict.fromkeys([*before, *now]):
        name = f"{of}.{key}" if of else key
        one, other = before.get(key), now.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            found += differences(one, other, name)
        elif one != other:
            found.append(Difference(name, one, other))
    return found


def _simpler(value: object) -> Any:
    # A set has another order in every process.
    return sorted(value) if isinstance(value, set | frozenset) else repr(value)
