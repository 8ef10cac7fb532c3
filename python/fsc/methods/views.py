"""Which views of the images a method that trains takes its minibatches from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from fsc.images.checks import AXES
from fsc.images.crops import random_crops
from fsc.images.hard_augmentation import hardened
from fsc.images.names import MIX_LABELS, VIEWS
from fsc.images.scale import spread
from fsc.methods.base import Task
from fsc.methods.fixed_views import FixedViews
from fsc.methods.fresh_views import FreshViews
from fsc.methods.soundness import MOST_IMAGES
from fsc.networks.joint_input import joint_of

if TYPE_CHECKING:
    from fsc.methods.schedule import Schedule

Kind = Literal["mirrored", "crops", "hard"]
AnyViews = FixedViews | FreshViews
# Of hard images at least so many are drawn from in turn, each of them made anew.
_LEAST_HARD = 256


def views_of(schedule: Schedule, task: Task) -> AnyViews:
    """The views of a task's images that a method asks for; nothing goes with them yet."""
    if schedule.views == "crops":
        return FreshViews(task.images, random_crops, task.batch_size)
    if schedule.views == "hard":
        # However few there are, a minibatch is as large as it is to be.
        copies = math.ceil(_LEAST_HARD / len(task.images))
        images = task.images.repeat(copies, *[1] * (task.images.ndim - 1))
        return FreshViews(images, hardened, task.batch_size)
    return FixedViews.of(task.images, task.batch_size)


def judged_images(schedule: Schedule, task: Task) -> Tensor:
    """Images by which a student that is trained on some views is judged, [N, ...].

    A student that was solved on the given images fits them better than any others: where others
    are there they are what the training is for, and these are none of those that it sees.
    """
    if schedule.views != "hard":
        return task.images
    few = spread(task.images, MOST_IMAGES)
    generator = torch.Generator().manual_seed(task.seed + 2)
    copies = math.ceil(MOST_IMAGES / len(few))
    return torch.cat([hardened(few, generator) for _ in range(copies)])


def check_kind(kind: str) -> None:
    """Make sure that there are such views.

    Raises:
        ValueError: there are not.
    """
    if kind not in VIEWS:
        raise ValueError(f"views must be one of {', '.join(VIEWS)}, got {kind!r}")


def are_pictures(model: nn.Module, images: Tensor) -> bool:
    """Whether a network's inputs are images [N, C, H, W], which can be cropped and mixed."""
    return images.ndim == 4 and joint_of(model) is None


def check_views(
    function: str, method: object, model: nn.Module, images: Tensor, labels: Tensor | None = None
) -> None:
    """Make sure that a method that crops or mixes is given images, and labels if they stay true.

    Args:
        function: who asks, for the sentence.
        method: any method; most take no views.
        model: the network as it takes one tensor.
        images: that tensor.
        labels: those that the method learns.

    Raises:
        ValueError: it crops or mixes, and they are not [N, C, H, W]; or it mixes, and there are
            labels.
    """
    views, name = getattr(method, "views", VIEWS[0]), type(method).__name__
    if views != VIEWS[0] and not are_pictures(model, images):
        several = joint_of(model) is not None
        found = "several inputs" if several else str(list(images.shape))
        raise ValueError(
            f"{function}: images must be [{', '.join(AXES[4])}] for {name} with "
            f"views={views!r}, got {found}"
        )
    if views in MIX_LABELS and labels is not None:
        raise ValueError(
            f"{function}: views must be {VIEWS[0]} or {VIEWS[1]} for {name} with labels, which "
            "mixed images do not keep, got 'hard'"
        )
