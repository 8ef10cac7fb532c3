"""Whether an argument is of the kind that it must be, asked before any work is done.

Numbers of NumPy are taken where Python's are, and made such here, once: torch refuses some of them
later, and a journal would tell them from equal ones.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from functools import cache
from inspect import get_annotations
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, SimpleNamespace, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor, nn

from fsc.wording import shown


def as_integer(name: str, value: Any) -> int:
    """An integer, NumPy's among them, as Python's own; True and False are none.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    return int(value)


def as_number(name: str, value: Any) -> float:
    """A number, NumPy's among them, as Python's own; True and False are none.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    # Names and sentences have integers as they were given, without a point.
    return int(value) if isinstance(value, Integral) else float(value)


def as_flag(name: str, value: Any) -> bool:
    """What is on or off, NumPy's among them, as Python's own.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def check_text(name: str, value: object) -> str:
    """Make sure that a text is one, and give it back.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {shown(value)}")
    return value


def as_count(name: str, value: Any) -> int:
    """A number of things, as Python's own: an integer, and at least 1.

    Raises:
        ValueError: it is below 1.
        TypeError: it is no integer.
    """
    found = as_integer(name, value)
    if found < 1:
        raise ValueError(f"{name} must be at least 1, got {found}")
    return found


def as_rate(name: str, value: Any) -> float:
    """A learning rate, or what else may be any number above 0, as Python's own.

    Raises:
        ValueError: it is not finite and above 0.
        TypeError: it is no number.
    """
    found = as_number(name, value)
    if not 0 < found < math.inf:
        raise ValueError(f"{name} must be finite and above 0, got {found}")
    return found


def as_channel_numbers(name: str, value: Any) -> tuple[float, ...]:
    """What is said of every channel: a number for each, whatever holds them.

    Raises:
        TypeError: it is something else.
    """
    rule = f"{name} must be a number for each channel, got {shown(value)}"
    if not is_several(value):
        raise TypeError(rule)
    # Those of a tensor [C, 1, 1] have two axes each.
    items = [each.item() if _holds_one(each) else each for each in value]
    try:
        return tuple(float(as_number(name, each)) for each in items)
    except TypeError as error:
        raise TypeError(rule) from error


def _holds_one(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray) and math.prod(value.shape) == 1


def is_several(value: object) -> bool:
    """Whether something holds values one after another; a text or a dict holds something else.

    Example:
        >>> is_several(each for each in [1]), is_several(torch.tensor(1)), is_several("1")
        (True, False, False)
    """
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def as_names(name: str, value: Any) -> tuple[str, ...]:
    """Several names, whatever holds them but a text of their letters.

    Raises:
        TypeError: they are something else.
    """
    is_listed = isinstance(value, Iterable) and not isinstance(value, str | bytes)
    found = tuple(value) if is_listed else ()
    if not is_listed or not all(isinstance(each, str) for each in found):
        raise TypeError(f"{name} must be a collection of names, got {shown(value)}")
    return found


def check_dict(name: str, value: object) -> None:
    """Make sure that what maps names to something is a mapping.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, got {shown(value)}")


def check_path(name: str, value: object) -> None:
    """Make sure that a file or folder is named by a text or a path.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {shown(value)}")


def check_folder(name: str, value: str | os.PathLike[str]) -> None:
    """Make sure that a folder is named, which need not exist, and that no file is in its place.

    Raises:
        TypeError: it is neither a text nor a path.
        ValueError: it, or what is to hold it, is a file.
    """
    check_path(name, value)
    path = Path(value)
    for each in (path, *path.parents):
        if each.exists() and not each.is_dir():
            at = "which" if each == path else f"where {each}"
            raise ValueError(f"{name} must name a folder, got {value}, {at} is a file")


def check_module(name: str, value: object) -> None:
    """Make sure that a network is one.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, nn.Module):
        is_result = isinstance(getattr(value, "student", None), nn.Module)
        hint = "; its network is result.student" if is_result else ""
        raise TypeError(f"{name} must be a torch.nn.Module, got {type(value).__name__}{hint}")


def check_tensor(name: str, value: object) -> None:
    """Make sure that a tensor is one, and holds its values one by one, as all that reads it wants.

    Raises:
        TypeError: it is none.
        ValueError: it is sparse, nested or in a layout of one library.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_nested:
        kind = "a nested tensor" if value.is_nested else str(value.layout)
        raise ValueError(f"{name} must be dense, got {kind}; to_dense() or padding makes it so")


# How the kinds of a field are asked for that are asked for here.
_CHECKS = {int: as_integer, float: as_number, bool: as_flag, str: check_text}


def check_fields(settings: Any) -> None:
    """Make sure that the numbers, flags and texts of a dataclass are such, and Python's own.

    Whether they are in their range, and what its other fields are, is asked by the dataclass.

    Args:
        settings: its fields say by their types what they are to hold. Numbers of NumPy are
            replaced, so that equal settings are the same ones to a journal.

    Raises:
        TypeError: one is something else.
    """
    kinds = _plain_fields(type(settings))  # type: ignore[arg-type]  # which mypy thinks unhashable
    for name, (kind, may_be_none) in kinds.items():
        value = getattr(settings, name)
        if not (value is None and may_be_none):
            # The dataclass may be frozen.
            object.__setattr__(settings, name, _CHECKS[kind](name, value))


def python_integer(value: Any) -> Any:
    """An integer of NumPy as Python's own; whatever else as it is."""
    return int(value) if isinstance(value, np.integer) else value


@cache
def _plain_fields(owner: type) -> dict[str, tuple[type, bool]]:
    """The fields of one kind that is asked for here, and whether each may be None as well."""
    found = {}
    for name in (field.name for field in fields(owner)):
        hint = _hint(owner, name)
        kinds = set(get_args(hint)) if get_origin(hint) in (Union, UnionType) else {hint}
        own = kinds - {NoneType}
        if len(own) == 1 and own <= _CHECKS.keys():
            found[name] = own.pop(), NoneType in kinds
    return found


def _hint(owner: type, name: str) -> Any:
    """The type of a field; None where it is written as a text that cannot be read from here."""
    base = next(each for each in owner.__mro__ if name in get_annotations(each))
    alone = SimpleNamespace(__annotations__={name: get_annotations(base)[name]})
    module = vars(sys.modules[base.__module__]) if base.__module__ in sys.modules else {}
    try:
        return get_type_hints(alone, module, dict(vars(base)))[name]
    except Exception:  # whatever reading a text of somebody else raises
        return None
