"""Which views of the images a method that trains takes its minibatches from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from fsc.images.checks import AXES
from fsc.images.crops import random_crops
from fsc.images.folder import ImageFolder, folder_of
from fsc.images.hard_augmentation import hardened
from fsc.images.names import MIX_LABELS, OF_FILES, VIEWS, one_of
from fsc.images.original_crops import KEPT_BYTES, OriginalCrops
from fsc.images.scale import spread
from fsc.methods.base import Task
from fsc.methods.fixed_views import FixedViews
from fsc.methods.fresh_views import FreshViews
from fsc.methods.soundness import MOST_IMAGES
from fsc.networks.joint_input import joint_of
from fsc.wording import shown

if TYPE_CHECKING:
    from fsc.methods.schedule import Schedule

Kind = Literal["mirrored", "crops", "hard", "original-crops"]
AnyViews = FixedViews | FreshViews
# Of hard images at least so many are drawn from in turn, each of them made anew.
_LEAST_HARD = 256


def views_of(schedule: Schedule, task: Task) -> AnyViews:
    """The views of a task's images that a method asks for; nothing goes with them yet.

    Raises:
        ValueError: of their files, which the task has not, or one of which is damaged.
        OSError: a file cannot be read.
    """
    if schedule.views == OF_FILES:
        if task.originals is None:
            raise _without_files("", type(schedule).__name__)
        budget = KEPT_BYTES if task.memory_budget is None else task.memory_budget
        crops = OriginalCrops(task.originals, task.images, budget)
        return FreshViews(task.images, crops, task.batch_size)
    if schedule.views == "crops":
        return FreshViews(task.images, random_crops, task.batch_size)
    if schedule.views == "hard":
        # However few there are, a minibatch is as large as it is to be.
        copies = math.ceil(_LEAST_HARD / len(task.images))
        images = task.images.repeat(copies, *[1] * (task.images.ndim - 1))
        return FreshViews(images, hardened, task.batch_size)
    return FixedViews.of(task.images, task.batch_size, task.progress)


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
        raise ValueError(f"views must be one of {', '.join(VIEWS)}, got {shown(kind)}")


def are_pictures(model: nn.Module, images: Tensor) -> bool:
    """Whether a network's inputs are images [N, C, H, W], which can be cropped and mixed."""
    return images.ndim == 4 and joint_of(model) is None


def originals_for(function: str, method: object, images: object) -> ImageFolder | None:
    """The files of images, for a method that is trained on crops of them; None for any other.

    Args:
        function: who asks, for the sentence.
        method: any.
        images: as the user gives them.

    Raises:
        ValueError: it is such a method, and images are no folder.
    """
    # The default trains by a method of its own.
    parts = (method, getattr(method, "train", None))
    learner = next((each for each in parts if getattr(each, "views", None) == OF_FILES), None)
    found = None if learner is None else folder_of(images)
    if learner is not None and found is None:
        raise ValueError(
            f"{function}: images must be an ImageFolder, or a Subset of one, for "
            f"{type(learner).__name__} with views={OF_FILES!r}, got {type(images).__name__}"
        )
    return found


def with_files(origin: dict[str, Any], originals: ImageFolder | None) -> dict[str, Any]:
    """What two runs must share, with the files that they crop: images say only what was resized.

    Raises:
        OSError: a file cannot be read.
    """
    if originals is None:
        return origin
    return origin | {"images": origin["images"] | {"files": originals.fingerprint()}}


def _without_files(function: str, name: str) -> ValueError:
    asked = f"{function}: " if function else ""
    return ValueError(
        f"{asked}views must be {one_of(tuple(v for v in VIEWS if v != OF_FILES))} for {name} where "
        f"the files of the images are not known, got {OF_FILES!r}"
    )


def check_views(
    function: str,
    method: object,
    model: nn.Module,
    images: Tensor,
    labels: Tensor | None = None,
    originals: ImageFolder | None = None,
) -> None:
    """Make sure that a method that crops or mixes is given images, and labels if they stay true.

    Args:
        function: who asks, for the sentence.
        method: any method; most take no views.
        model: the network as it takes one tensor.
        images: that tensor.
        labels: those that the method learns.
        originals: the files of the images, where they are known.

    Raises:
        ValueError: it crops or mixes, and they are not [N, C, H, W]; it mixes, and there are
            labels; or it crops files, and these are not known.
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
            f"{function}: views must be {one_of(tuple(v for v in VIEWS if v not in MIX_LABELS))} "
            f"for {name} with labels, which mixed images do not keep, got {shown(views)}"
        )
    if views == OF_FILES and originals is None:
        raise _without_files(function, name)
