"""Whether an argument is of the kind that it must be, asked before any work is done."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from dataclasses import fields
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn


def check_integer(name: str, value: object) -> None:
    """Make sure that a number is an integer; True and False are none.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, got {value!r}")


def check_number(name: str, value: object) -> None:
    """Make sure that a number is one; True and False are none.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Real) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, got {value!r}")


def check_flag(name: str, value: object) -> None:
    """Make sure that what is on or off is True or False.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_text(name: str, value: object) -> None:
    """Make sure that a text is one.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a text, got {value!r}")


def check_count(name: str, value: int) -> None:
    """Make sure that a number of things is an integer, and at least 1.

    Raises:
        ValueError: it is below 1.
        TypeError: it is no integer.
    """
    check_integer(name, value)
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def check_rate(name: str, value: float) -> None:
    """Make sure that a learning rate, or what else may be any number above 0, is one.

    Raises:
        ValueError: it is not finite and above 0.
        TypeError: it is no number.
    """
    check_number(name, value)
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be finite and above 0, got {value}")


def check_channel_numbers(name: str, value: Any) -> None:
    """Make sure that what is said of every channel is a number for each of them.

    Raises:
        TypeError: it is not.
    """
    is_row = isinstance(value, Collection) and not isinstance(value, str | bytes | Mapping)
    if not is_row or not all(_is_one_number(each) for each in value):
        raise TypeError(f"{name} must be a number for each channel, got {value!r}")


def _is_one_number(value: Any) -> bool:
    return isinstance(value, Real) or (isinstance(value, Tensor) and value.numel() == 1)


def check_names(name: str, value: Any) -> None:
    """Make sure that names are a collection of texts, not a text of their letters.

    Raises:
        TypeError: they are not.
    """
    is_listed = isinstance(value, Collection) and not isinstance(value, str | bytes)
    if not is_listed or not all(isinstance(each, str) for each in value):
        raise TypeError(f"{name} must be a collection of names, got {value!r}")


def check_dict(name: str, value: object) -> None:
    """Make sure that what maps names to something is a mapping.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a dict, got {value!r}")


def check_path(name: str, value: object) -> None:
    """Make sure that a file or folder is named by a text or a path.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {value!r}")


def check_module(name: str, value: object) -> None:
    """Make sure that a network is one.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(value, nn.Module):
        raise TypeError(f"{name} must be a torch.nn.Module, got {type(value).__name__}")


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
_CHECKS = {int: check_integer, float: check_number, bool: check_flag, str: check_text}


def check_fields(settings: Any) -> None:
    """Make sure that the numbers, flags and texts of a dataclass are such.

    Whether they are in their range, and what its other fields are, is asked by the dataclass.

    Args:
        settings: its fields say by their types what they are to hold.

    Raises:
        TypeError: one is not.
    """
    for name, (kind, may_be_none) in _plain_fields(type(settings)).items():
        value = getattr(settings, name)
        if not (value is None and may_be_none):
            _CHECKS[kind](name, value)


def _plain_fields(owner: type) -> dict[str, tuple[type, bool]]:
    """The fields of one kind that is asked for here, and whether each may be None as well."""
    hints = get_type_hints(owner)
    found = {}
    for name in (field.name for field in fields(owner)):
        is_union = get_origin(hints[name]) in (Union, UnionType)
        kinds = set(get_args(hints[name])) if is_union else {hints[name]}
        own = kinds - {NoneType}
        if len(own) == 1 and own <= _CHECKS.keys():
            found[name] = own.pop(), NoneType in kinds
    return found
