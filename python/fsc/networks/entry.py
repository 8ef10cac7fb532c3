"""A teacher and images as users hand them over, made into what everything else computes with."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from fsc.images.checks import check_images
from fsc.images.gathering import Images, gathered
from fsc.networks.plain import plain
from fsc.networks.tracing import trace
from fsc.networks.wrappers import check_layers, check_teacher, in_single_precision, unwrap


@dataclass(frozen=True)
class Entry:
    """What a compression begins with: a network that can be read layer by layer, and images.

    Attributes:
        given: the network as the user has it, without wrappers.
        teacher: the same in plain modules of torch.nn, in evaluation mode, in float32 where it is
            in half precision.
        images: [N, C, H, W] of its dtype and on its device.
    """

    given: nn.Module
    teacher: nn.Module
    images: Tensor


def enter(function: str, model: nn.Module, images: Images, num_images: int | None = None) -> Entry:
    """Make sure that a network can be worked on and that the images are for it.

    Args:
        function: what was called with them, for sentences.
        model: any network, wrapped, compiled or in half precision; it is not changed.
        images: as for `fsc.compress`.
        num_images: how many are needed at most, at least 1; no more are read. None: all.

    Raises:
        ValueError: the images do not fit the network, or it cannot be read or traced.
        TypeError: images come as something else than tensors.
    """
    given = unwrap(model)
    check_teacher(given)
    read = gathered(function, images, given, num_images)
    teacher, read = in_single_precision(given, read)
    check_images(function, read, teacher, moved=False)
    read = read[:num_images].detach()
    # Two, where there are two: what mixes the images of a batch is seen then.
    teacher = plain(teacher, read[:2])
    check_layers(teacher)
    check_images(function, read, teacher, trace(teacher), moved=False)
    return Entry(given, teacher, read)
