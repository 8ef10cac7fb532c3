"""What networks return, taken apart and compared: tensors, and containers of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import torch
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


def difference(first: Any, second: Any, floor: float = 0.0) -> float:
    """The largest difference of two outputs relative to the largest value, 0 where both are 0.

    Every tensor of them counts by itself, so that a small one is not hidden behind a large one.

    Args:
        first: what is expected.
        second: what is found.
        floor: the least that a tensor is taken for, as a share of the largest of them all: what is
            zero but for rounding differs from itself by any factor.

    Example:
        >>> difference((torch.ones(2), torch.full((2,), 1e-3)), (torch.ones(2), torch.zeros(2)))
        1.0
    """
    pairs = [leaves_of(value) for value in (first, second)]
    if len(pairs[0]) != len(pairs[1]):
        return torch.inf
    least = floor * max([0.0, *(_largest(leaf) for leaf in pairs[0] if isinstance(leaf, Tensor))])
    worst = 0.0
    for a, b in zip(*pairs, strict=True):
        if not isinstance(a, Tensor) or not isinstance(b, Tensor):
            worst = max(worst, 0.0 if a == b else torch.inf)
        elif a.shape != b.shape or a.dtype != b.dtype:
            return torch.inf
        elif a.numel() and not torch.equal(a, b):
            apart, scale = _apart(_wide(a), _wide(b)), max(_largest(a), least)
            worst = max(worst, apart / scale if scale else apart and torch.inf)
    return worst


def _wide(tensor: Tensor) -> Tensor:
    """A tensor in which differences can be taken, also of truth values and unsigned integers."""
    return tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.double()


def _apart(first: Tensor, second: Tensor) -> float:
    """The largest difference of two tensors; where both are NaN, or one infinity, there is none."""
    same = (first == second) | (first.isnan() & second.isnan())
    found = float((first - second).abs().masked_fill(same, 0).max())
    return torch.inf if found != found else found


def _largest(tensor: Tensor) -> float:
    """The largest finite value, in size."""
    if not tensor.numel():
        return 0.0
    values = _wide(tensor).abs()
    found = values.max()  # NaN where there is one
    return float(found if found.isfinite() else values.nan_to_num(0.0, 0.0).max())
