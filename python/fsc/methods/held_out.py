"""Scores of students on images that no method sees: accuracy, or agreement with their teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.images.checks import check_images
from fsc.images.labels import check_labels, check_range
from fsc.methods.features import computed, scores_of
from fsc.networks.entry import Entry
from fsc.networks.tracing import trace
from fsc.networks.wrappers import in_single_precision
from fsc.training.evaluate import accuracy

# Of the images, where none are given to be scored on.
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Judge:
    """Images that no method sees, with the classes that are right.

    Attributes:
        images: [M, C, ...].
        classes: int64 [M].
        by: who says so: labels, or the teacher, with whom a student agrees or not.
        batch_size: images that go through a student at once.
    """

    images: Tensor
    classes: Tensor
    by: Literal["labels", "agreement"]
    batch_size: int

    def score(self, network: nn.Module) -> float:
        """The share of right classes in percent, the same on every rank."""
        given = (network, self.images, self.classes, self.batch_size)
        return ranks.first(lambda: accuracy(*given))


def parted(
    function: str,
    entry: Entry,
    labels: Tensor | None,
    score_images: Tensor | None,
    score_labels: Tensor | None,
    batch_size: int,
    seed: int,
) -> tuple[Tensor, Judge]:
    """The images that a method may see, and those that students are scored on.

    Args:
        function: who asks, for the sentences.
        entry: the teacher, with images and the labels that came with them.
        labels: of these images, as the user says; not beside `score_images`.
        score_images: to be scored on. None: a fifth of the images.
        score_labels: their classes. None: those that the teacher names.
        batch_size: images that go through a network at once.
        seed: of the draw.

    Raises:
        ValueError: something does not fit, or there is one image alone.
        TypeError: labels or images are no tensors.
    """
    images, model = entry.images, entry.teacher
    if score_images is not None:
        if labels is not None:
            raise ValueError(
                f"{function}: labels must be left out beside score_images, whose classes are "
                "score_labels, got both"
            )
        others: Any = in_single_precision(entry.given, score_images)[1]
        check_images(f"{function}, score_images", others, model, trace(model))
        others = others.to(images.device)
        known = _labels(f"{function}, score_labels", score_labels, entry, len(others))
        return images, _judge(model, others, known, batch_size)
    found = _labels(function, entry.labels if labels is None else labels, entry)
    if score_labels is not None:
        raise ValueError(f"{function}: score_labels must go with score_images, got them alone")
    if len(images) < 2:
        raise ValueError(
            f"{function}: images must be at least 2, of which one is held out, or come with "
            f"score_images, got {len(images)}"
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator, device="cpu").to(images.device)
    number = math.ceil(_HELD_OUT * len(images))
    held_out, seen = order[:number].sort().values, order[number:].sort().values
    known = None if found is None else found[held_out]
    return images[seen], _judge(model, images[held_out], known, batch_size)


def _labels(
    function: str, labels: Tensor | None, entry: Entry, count: int | None = None
) -> Tensor | None:
    """Classes of so many images, those of the entry by default, checked."""
    if labels is None:
        return None
    check_labels(function, labels, len(entry.images) if count is None else count)
    classes = scores_of(function, entry.teacher, entry.images[:1]).shape[1]
    check_range(function, labels, classes)
    return labels.to(entry.images.device).long()


def _judge(model: nn.Module, images: Tensor, labels: Tensor | None, batch_size: int) -> Judge:
    if labels is not None:
        return Judge(images, labels, "labels", batch_size)
    (scores,) = computed(model, images[None], batch_size)  # [1, M, classes]
    return Judge(images, scores[0].argmax(1), "agreement", batch_size)
