"""What networks return, taken apart: tensors, and tuples, lists, dicts and dataclasses of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves


def leaves_of(value: Any) -> list[Any]:
    """Everything in a value that is no container, in order.

    Example:
        >>> leaves_of({"a": (1, [2]), "b": 3})
        [1, 2, 3]
    """
    found: list[Any] = []
    for leaf in tree_leaves(value):
        if isinstance(leaf, Mapping):  # of a class that torch does not know
            found += leaves_of(list(leaf.values()))
        elif is_dataclass(leaf) and not isinstance(leaf, type):
            found += leaves_of([getattr(leaf, field.name) for field in fields(leaf)])
        else:
            found.append(leaf)
    return found


def tensors_of(value: Any) -> list[Tensor]:
    """The tensors in a value, in order."""
    return [leaf for leaf in leaves_of(value) if isinstance(leaf, Tensor)]
