"""How the labels of a tensor lie along its axes."""

from __future__ import annotations

import torch
from torch import Tensor

from fsc.channels.labels import NONE


def varying(labels: Tensor) -> list[int]:
    """The axes along which labels change."""
    axes = range(labels.ndim) if labels.numel() else ()
    return [axis for axis in axes if bool((labels != labels.narrow(axis, 0, 1)).any())]


def lines(labels: Tensor, axis: int) -> Tensor:
    """The labels at every index of an axis, [size, rest]."""
    return labels.movedim(axis, 0).reshape(labels.shape[axis], -1)


def filled(labels: Tensor) -> Tensor:
    """Give the pixels that an operation adds around those of a channel the channel's label."""
    for axis in (1, -1) if labels.ndim > 2 and labels.numel() else ():
        rows = lines(labels, axis)
        label = rows.amax(1, keepdim=True)
        if bool(((rows == label) | (rows == NONE)).all()):
            shape = [1] * labels.ndim
            shape[axis] = len(label)
            return torch.where(labels == NONE, label.view(shape), labels)
    return labels


def broadcasts(result: torch.Size, *shapes: torch.Size) -> bool:
    """Whether each of the shapes stretches to the result's, as in an elementwise operation."""
    return all(
        len(shape) <= len(result)
        and all(a in (1, b) for a, b in zip(shape[::-1], result[::-1], strict=False))
        for shape in shapes
    )


def repeats(shape: torch.Size, other: Tensor) -> bool:
    """Whether an input of `shape` is repeated over an axis along which other labels change."""
    sizes = [1] * (other.ndim - len(shape)) + list(shape)
    return any(sizes[axis] == 1 for axis in varying(other))
