"""The classes of images, as they come with them or beside them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fsc.arguments import check_tensor, is_several

# What a dict of a batch calls its labels.
LABEL_NAMES = ("labels", "label")


def labels_in(item: Any, num_inputs: int, number: int) -> Tensor | None:
    """Labels that an item of a loader holds behind its inputs, or by name.

    Args:
        item: an image or a batch, alone or with whatever comes with it.
        num_inputs: how many of a tuple are inputs.
        number: how many images it holds.

    Returns:
        int64 [number] on the CPU; None where it holds no integers, one for each image, or negative
        ones, as what stands for none is.

    Example:
        >>> labels_in((torch.zeros(2, 3, 8, 8), torch.tensor([5, 1])), 1, 2)
        tensor([5, 1])
    """
    found = None
    if isinstance(item, Mapping):
        found = next((item[name] for name in LABEL_NAMES if name in item), None)
    elif isinstance(item, tuple | list) and len(item) > num_inputs:
        found = item[num_inputs]
    if isinstance(found, Integral | np.ndarray) or _are_integers(found):
        found = torch.as_tensor(found, device="cpu")
    if not isinstance(found, Tensor) or not _is_integral(found) or found.numel() != number:
        return None
    if found.shape[1:].numel() != 1 or bool((found.long() < 0).any()):
        return None
    # One image alone may have a number, and a batch a column of them.
    return found.reshape(-1).long().cpu()


def check_labels(function: str, labels: object, num_images: int) -> None:
    """Make sure that labels are integers, one for each image.

    Raises:
        TypeError: they are no tensor; the sentence says what makes them one.
        ValueError: they are too many, too few, or no integers.
    """
    if not isinstance(labels, Tensor) and (is_several(labels) or isinstance(labels, Integral)):
        made = "[labels]" if isinstance(labels, Integral) else "labels"
        raise TypeError(
            f"{function}: labels must be a torch.Tensor, got {type(labels).__name__}; "
            f"torch.as_tensor({made}) makes it one"
        )
    check_tensor(f"{function}: labels", labels)
    assert isinstance(labels, Tensor)
    if labels.ndim != 1 or len(labels) != num_images:
        raise ValueError(
            f"{function}: labels must be [{num_images}], one for each image, "
            f"got {list(labels.shape)}{_as_one_axis(labels, num_images)}"
        )
    if not _is_integral(labels):
        hint = "" if labels.is_complex() else "; labels.long() makes them such"
        raise ValueError(f"{function}: labels must be integers, got {labels.dtype}{hint}")


def check_range(function: str, labels: Tensor, num_classes: int) -> None:
    """Make sure that every label is the place of a class in the scores.

    Raises:
        ValueError: one is not.
    """
    labels = labels.long()  # torch has no least of unsigned ones
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"{function}: labels must be in [0, {num_classes}), got {int(labels.min())} "
            f"to {int(labels.max())}"
        )


def _as_one_axis(labels: Tensor, num_images: int) -> str:
    """What makes labels of a column or of one-hot rows one number for each image, in words."""
    if labels.ndim != 2 or len(labels) != num_images or labels.is_complex():
        return ""
    if labels.shape[1] != 1:
        return "; labels.argmax(1) makes those of one-hot rows such"
    return f"; labels.squeeze(1){'' if _is_integral(labels) else '.long()'} makes them such"


def _are_integers(found: Any) -> bool:
    """Whether these are numbers in a list, as a batch of a data set may have them."""
    return isinstance(found, tuple | list) and bool(found) and {*map(type, found)} == {int}


def _is_integral(values: Tensor) -> bool:
    return not (values.is_floating_point() or values.is_complex() or values.dtype == torch.bool)
