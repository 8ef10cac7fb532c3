"""Which methods take labels, and whether those that are given fit."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from fsc.images.labels import check_labels, check_range
from fsc.methods.features import scores_of
from fsc.networks.calls import learnable

LabelUse = Literal["none", "optional", "needed"]


def label_use(method: object) -> LabelUse:
    """Whether a method takes labels; those that do not say take none."""
    found: LabelUse = getattr(method, "label_use", "none")
    return found


def labels_for(
    function: str,
    method: object,
    given: Tensor | None,
    loaded: Tensor | None,
    teacher: nn.Module,
    images: Tensor,
) -> Tensor | None:
    """The labels that a method is to learn, checked.

    Args:
        function: who asks, for the sentences.
        method: that is to be given them.
        given: what the user says they are.
        loaded: what came with images from a loader; ignored by a method that takes none.
        teacher: whose scores have one place for each class.
        images: [N, ...].

    Returns:
        int64 [N] beside the images, or None.

    Raises:
        TypeError: they are no tensor.
        ValueError: they are needed and missing, not taken and given, or do not fit the images or
            the teacher's scores.
    """
    name, use = type(method).__name__, label_use(method)
    if given is not None:
        check_labels(function, given, len(images))
        if use == "none":
            raise ValueError(
                f"{function}: labels must be left out for {name}, which takes none, got "
                f"{list(given.shape)}"
            )
        if loaded is not None and not torch.equal(loaded, given.cpu().long()):
            raise ValueError(
                f"{function}: labels must be given once, got labels= and others that came with the "
                "images"
            )
    labels = loaded if given is None else given
    if use == "none":
        return None
    if labels is None:
        if use == "needed":
            raise ValueError(
                f"{function}: labels must be given for {name}, as labels= or by a DataLoader or "
                "Dataset of images with labels, got none that are integers, one for each image"
            )
        return None
    check_range(function, labels, scores_of(name, teacher, images[:1]).shape[1])
    return learnable(labels.to(images.device).long())
