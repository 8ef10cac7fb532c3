"""What every call that compresses or recovers is given, asked before any work is done."""

from __future__ import annotations

from typing import Any

from fsc.arguments import as_count, as_integer, check_module
from fsc.wording import shown


def as_numbers(batch_size: Any, seed: Any) -> tuple[int, int]:
    """What every call that takes a teacher and images takes as well, as Python's own.

    Args:
        batch_size: images that go through the networks at once.
        seed: of whatever is drawn.

    Raises:
        ValueError: the batch size is below 1.
        TypeError: one is no integer.
    """
    return as_count("batch_size", batch_size), as_integer("seed", seed)


def as_budget(memory_budget: Any) -> int | None:
    """Bytes that are held in memory, as Python's own, or None.

    Raises:
        ValueError: they are below 0.
        TypeError: they are no integer.
    """
    if memory_budget is None:
        return None
    found = as_integer("memory_budget", memory_budget)
    if found < 0:
        raise ValueError(f"memory_budget must be at least 0 bytes or None, got {found}")
    return found


def check_types(teacher: object, method: object) -> None:
    """Make sure that a teacher and a method are such.

    Raises:
        TypeError: one is not.
    """
    check_module("teacher", teacher)
    is_method = callable(getattr(method, "compress", None)) and not isinstance(method, type)
    if not is_method and not isinstance(method, str | None):
        raise TypeError(
            "method must be one of fsc.methods, e.g. fsc.CrossDistillation(), or its name, e.g. "
            f"'cd-soft', got {as_given(method)}"
        )


def as_given(value: object) -> str:
    """What stands where a method should, in words; of a class of methods, how one is made."""
    if isinstance(value, type) and callable(getattr(value, "compress", None)):
        return f"{shown(value)}; {value.__name__}() is one"
    return shown(value)


def check_log(log: object) -> None:
    """Make sure that what is told of a training can be called.

    Raises:
        TypeError: it cannot.
    """
    if log is not None and not callable(log):
        raise TypeError(f"log must be a function of (numbers by name, step), or None, got {log!r}")
