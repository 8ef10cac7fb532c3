"""What images are like: their scale, channel by channel, and whether there is anything in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOGETHER = 64  # images that are looked at at once


@dataclass(frozen=True)
class ImageStatistics:
    """Mean, deviation and range of every channel over all images and pixels, C numbers each."""

    mean: list[float]
    deviation: list[float]
    minimum: list[float]
    maximum: list[float]


def statistics(images: Tensor) -> ImageStatistics:
    """The statistics of images [N, C, ...].

    Example:
        >>> statistics(torch.tensor([1.0, 3.0]).reshape(1, 1, 1, 2)).mean
        [2.0]
    """
    # Some at a time: in float64, and channel by channel, all of them would be held thrice.
    parts = images.detach().split(TOGETHER)
    rest = [axis for axis in range(images.ndim) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(images.ndim)]
    count = images[:, :1].numel()
    mean = torch.stack([part.double().sum(rest) for part in parts]).sum(0) / count  # [C]
    squares = [(part.double() - mean.view(shape)).square().sum(rest) for part in parts]
    return ImageStatistics(
        mean.tolist(),
        (torch.stack(squares).sum(0) / count).sqrt().tolist(),
        torch.stack([part.double().amin(rest) for part in parts]).amin(0).tolist(),
        torch.stack([part.double().amax(rest) for part in parts]).amax(0).tolist(),
    )


def emptiness(images: Tensor) -> str | None:
    """A sentence where images [N, C, ...] hold nothing or all the same, else None."""
    pixels = images.flatten(2) if images.ndim > 2 else images[..., None]  # [N, C, pixels]
    constant = (pixels.amin(2) == pixels.amax(2)).all(1)  # [N]
    count = int(constant.sum())
    if count and pixels.shape[2] > 1:
        first = int(constant.nonzero()[0])
        verb = "is" if count == 1 else "are"
        return (
            f"{count} of {len(images)} images {verb} constant, the first of them image {first}: "
            "every channel has one value over all pixels, from which no layer can learn"
        )
    parts = images.split(TOGETHER)
    if len(images) > 1 and all(bool((part == images[:1]).all()) for part in parts):
        return f"all {len(images)} images are the same picture, so that they count as one"
    return None


def spread(images: Tensor, count: int) -> Tensor:
    """At most `count` images, evenly spaced: samples are often sorted by class."""
    step = -(-len(images) // count)
    return images[::step]
