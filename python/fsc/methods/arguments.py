"""What every call that compresses or recovers is given, asked before any work is done."""

from __future__ import annotations

from fsc.arguments import check_count, check_integer, check_module


def check_numbers(batch_size: int, seed: int, memory_budget: int | None = None) -> None:
    """Make sure of what every call that takes a teacher and images takes as well.

    Args:
        batch_size: images that go through the networks at once.
        seed: of whatever is drawn.
        memory_budget: bytes, or None.

    Raises:
        ValueError: one is out of its range.
        TypeError: one is no integer.
    """
    check_count("batch_size", batch_size)
    check_integer("seed", seed)
    if memory_budget is not None:
        check_integer("memory_budget", memory_budget)
        if memory_budget < 0:
            raise ValueError(f"memory_budget must be at least 0 bytes or None, got {memory_budget}")


def check_types(teacher: object, method: object) -> None:
    """Make sure that a teacher and a method are such.

    Raises:
        TypeError: one is not.
    """
    check_module("teacher", teacher)
    is_method = not isinstance(method, type) and callable(getattr(method, "compress", None))
    if not is_method and not isinstance(method, str | None):
        raise TypeError(
            "method must be one of fsc.methods, e.g. fsc.CrossDistillation(), or its name, e.g. "
            f"'cd-soft', got {method!r}"
        )


def check_log(log: object) -> None:
    """Make sure that what is told of a training can be called.

    Raises:
        TypeError: it cannot.
    """
    if log is not None and not callable(log):
        raise TypeError(f"log must be a function of (numbers by name, step), or None, got {log!r}")
