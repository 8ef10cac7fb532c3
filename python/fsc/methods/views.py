"""Which views of the images a method that trains takes its minibatches from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch import Tensor, nn

from fsc.images.checks import AXES
from fsc.images.names import VIEWS
from fsc.methods.base import Task
from fsc.methods.fixed_views import FixedViews
from fsc.methods.fresh_crops import FreshCrops
from fsc.networks.joint_input import joint_of

if TYPE_CHECKING:
    from fsc.methods.schedule import Schedule

Kind = Literal["mirrored", "crops"]
AnyViews = FixedViews | FreshCrops


def views_of(schedule: Schedule, task: Task) -> AnyViews:
    """The views of a task's images that a method asks for; nothing goes with them yet."""
    if schedule.views == "crops":
        return FreshCrops(task.images, task.batch_size)
    return FixedViews.of(task.images, task.batch_size)


def check_kind(kind: str) -> None:
    """Make sure that there are such views.

    Raises:
        ValueError: there are not.
    """
    if kind not in VIEWS:
        raise ValueError(f"views must be {' or '.join(VIEWS)}, got {kind!r}")


def check_views(function: str, method: object, model: nn.Module, images: Tensor) -> None:
    """Make sure that a method that crops is given images.

    Args:
        function: who asks, for the sentence.
        method: any method; most take no views.
        model: the network as it takes one tensor.
        images: that tensor.

    Raises:
        ValueError: it crops, and they are not [N, C, H, W].
    """
    several = joint_of(model) is not None
    if getattr(method, "views", None) == "crops" and (several or images.ndim != 4):
        found = "several inputs" if several else str(list(images.shape))
        raise ValueError(
            f"{function}: images must be [{', '.join(AXES[4])}] for {type(method).__name__} with "
            f"views='crops', got {found}"
        )
