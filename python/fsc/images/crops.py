"""Random resized crops and mirror images, as networks for ImageNet are trained on."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

# torchvision's RandomResizedCrop; the paper of Inception (Szegedy et al., 2015) has them first.
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)
_ATTEMPTS = 10


def random_crops(images: Tensor, generator: torch.Generator, own: slice = slice(None)) -> Tensor:
    """A part of each image, as large as the image again, and mirrored one time in two.

    Parts are drawn as torchvision's RandomResizedCrop draws them (`random_boxes`) and resized
    bilinearly. A part is no larger than what it becomes, so that there is nothing to antialias.
    All images are resized at once, on their device; only the numbers are drawn on the CPU.

    Args:
        images: [N, C, H, W], floating point.
        generator: of the CPU; the same state gives the same bits.
        own: those of the N whose parts are wanted; numbers are drawn for all.

    Returns:
        [N, C, H, W], or fewer

    Example:
        >>> random_crops(torch.randn(4, 3, 8, 8), torch.Generator().manual_seed(0)).shape
        torch.Size([4, 3, 8, 8])
    """
    count, _, height, width = images.shape
    boxes, mirrored = random_parts(count, height, width, generator)
    return resized_parts(images[own], boxes[own], mirrored[own])


def random_parts(
    count: int, height: int | Tensor, width: int | Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which parts of images, as `random_boxes` has them, and which are mirrored, bool [N]."""
    boxes = random_boxes(count, height, width, generator)
    mirrored = torch.rand(count, generator=generator, dtype=torch.float64, device="cpu") < 0.5
    return boxes, mirrored


def random_boxes(
    count: int, height: int | Tensor, width: int | Tensor, generator: torch.Generator
) -> Tensor:
    """Parts of images: shares of the area and logarithms of the ratio are drawn uniformly.

    Of ten draws the first that lies within the image is taken; without any it is the middle, as
    wide or as high as the image and of the nearest ratio that is allowed.

    Args:
        count: N; what is drawn depends on nothing else.
        height: of all images, or of each, integers [N] on the CPU.
        width: likewise.
        generator: of the CPU.

    Returns:
        top, left, height and width in pixels, int64 [N, 4], on the CPU.
    """
    whole = torch.stack(
        [torch.as_tensor(side, device="cpu").expand(count) for side in (height, width)], 1
    )  # [N, 2]
    middle = torch.tensor([_middle(*sides) for sides in whole.tolist()], device="cpu").view(-1, 2)
    whole = whole.double()
    drawn = torch.rand(
        count, _ATTEMPTS + 1, 2, generator=generator, dtype=torch.float64, device="cpu"
    )
    area, shape = drawn[:, :_ATTEMPTS].unbind(2)  # [N, attempts] each
    area = whole.prod(1, keepdim=True) * (AREA[0] + (AREA[1] - AREA[0]) * area)
    low, high = map(math.log, RATIO)
    ratio = (low + (high - low) * shape).exp()  # of width to height
    widths = (area * ratio).sqrt().round()
    heights = (area / ratio).sqrt().round()
    fits = (heights >= 1) & (heights <= whole[:, :1]) & (widths >= 1) & (widths <= whole[:, 1:])
    first = fits.int().argmax(1, keepdim=True)  # the first of the largest
    found = fits.any(1, keepdim=True)
    sides = torch.cat([heights.gather(1, first), widths.gather(1, first)], 1)  # [N, 2]
    sides = sides.where(found, middle.double())
    free = whole - sides
    starts = (drawn[:, _ATTEMPTS] * (free + 1)).where(found, free / 2).floor()
    return torch.cat([starts, sides], 1).long()


def _middle(height: int, width: int) -> tuple[int, int]:
    """Height and width of the largest part in the middle whose ratio is allowed."""
    if width < RATIO[0] * height:
        return max(1, round(width / RATIO[0])), width
    if width > RATIO[1] * height:
        return height, max(1, round(height * RATIO[1]))
    return height, width


def resized_parts(images: Tensor, boxes: Tensor, mirrored: Tensor) -> Tensor:
    """Parts of images, each as large as the image, bilinearly; nothing beyond a part is looked at.

    Args:
        images: [N, C, H, W], floating point.
        boxes: top, left, height and width, [N, 4], on the CPU.
        mirrored: which are mirrored, bool [N], on the CPU.

    Returns:
        [N, C, H, W]
    """
    height, width = images.shape[2:]
    tops, lefts, heights, widths = boxes.double().unbind(1)
    down = _places(tops, heights, height)  # [N, H]
    across = _places(lefts, widths, width)  # [N, W]
    across = across.flip(1).where(mirrored[:, None], across)
    places = torch.cat([down, across], 1).to(images)  # once to the device
    down, across = places.split([height, width], 1)
    shape = (len(images), height, width)
    grid = torch.stack([across[:, None].expand(shape), down[:, :, None].expand(shape)], 3)
    return F.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _places(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Where every pixel of a resized side lies, from -1 to 1 across the whole side, [N, size]."""
    steps = torch.arange(size, dtype=start.dtype, device="cpu") + 0.5
    inside = (length[:, None] * steps / size - 0.5).clamp(min=0)
    # The outermost pixels are those of the part: neighbours outside are not mixed in.
    pixels = start[:, None] + inside.minimum(length[:, None] - 1)
    return (2 * pixels + 1) / size - 1
