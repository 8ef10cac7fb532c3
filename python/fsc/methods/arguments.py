"""Whether what a call is given is what it must be, asked before any work is done."""

from __future__ import annotations

from numbers import Integral

from torch import nn


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
    if not isinstance(teacher, nn.Module):
        raise TypeError(f"teacher must be a torch.nn.Module, got {type(teacher).__name__}")
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


def check_count(name: str, value: int) -> None:
    """Make sure that a number of things is an integer, and at least 1.

    Raises:
        ValueError: it is below 1.
        TypeError: it is no integer.
    """
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_integer(name: str, value: object) -> None:
    """Make sure that a number is an integer; True and False are none.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Make sure that what is on or off is True or False.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
