"""Images moved, recoloured and mixed hard: new ones for a student that is taught by a teacher.

The teacher says what each of them is, so that they need not look like what the classes are. Colours
are changed between the darkest and the brightest value that the given images have in each channel:
how they were normalised need not be known.
"""

import math

import torch
from torch import Tensor

_ZOOM = 0.6  # e to the power of at most so much, larger or smaller
_DEGREES = 25.0
_SHIFT = 0.3  # of the image's side: 10 pixels of 32
_BRIGHTNESS = _CONTRAST = _SATURATION = 0.5
_CHANNEL = 0.25
_MIXED = 0.5  # of the images; half by mixup, half by cutmix


def hardened(images: Tensor, generator: torch.Generator, own: slice = slice(None)) -> Tensor:
    """A new image from each: mirrored, moved, recoloured, and one time in two mixed with another.

    Args:
        images: [N, C, H, W], normalised.
        generator: of the draws, on the CPU.
        own: those of the N that are wanted; all are drawn and made.

    Returns:
        [N, C, H, W], or fewer
    """
    draws = torch.rand(len(images), 13 + images.shape[1], generator=generator, device="cpu")
    partner = torch.randperm(len(images), generator=generator, device="cpu").to(images.device)
    draws = draws.to(images)  # [N, 13 + C] in [0, 1)
    mirrored = torch.where(_as_images(draws[:, 0] < 0.5), images.flip(3), images)
    changed = _recoloured(_moved(mirrored, 2 * draws[:, 1:5] - 1), images, 2 * draws[:, 10:] - 1)
    return _mixed(changed, changed[partner], draws[:, 5:10])[own]


def _as_images(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _moved(images: Tensor, draws: Tensor) -> Tensor:
    """Zoomed, turned and shifted by draws [N, 4] in -1...1; the border is reflected."""
    scale = torch.exp(-_ZOOM * draws[:, 0])
    angle = math.radians(_DEGREES) * draws[:, 1]
    # Coordinates run from -1 to 1, so a share of the side is twice as much in them.
    shift = 2 * _SHIFT * draws[:, 2:]
    cos, sin = scale * angle.cos(), scale * angle.sin()
    # One unit is half a side, so that an angle is one only where both sides are as long.
    aspect = images.shape[2] / images.shape[3]
    rows = [
        torch.stack([cos, -sin * aspect, shift[:, 0]], 1),
        torch.stack([sin / aspect, cos, shift[:, 1]], 1),
    ]
    grid = torch.nn.functional.affine_grid(
        torch.stack(rows, 1), list(images.shape), align_corners=False
    )
    return torch.nn.functional.grid_sample(
        images, grid, padding_mode="reflection", align_corners=False
    )


def _recoloured(images: Tensor, given: Tensor, draws: Tensor) -> Tensor:
    """Brighter, of more contrast, of more colour, or less; draws [N, 3 + C] in -1...1."""
    darkest = given.amin((0, 2, 3), keepdim=True)  # [1, C, 1, 1]
    spread = given.amax((0, 2, 3), keepdim=True) - darkest
    varies = spread > 0
    values = (images - darkest) / torch.where(varies, spread, 1)  # from 0 to 1
    values = values * (1 + _BRIGHTNESS * _as_images(draws[:, 0]))
    for centre, strength, draw in (((1, 2, 3), _CONTRAST, 1), (1, _SATURATION, 2)):
        mean = values.mean(centre, keepdim=True)
        values = mean + (values - mean) * (1 + strength * _as_images(draws[:, draw]))
    values = values * (1 + _CHANNEL * draws[:, 3:, None, None])
    return torch.where(varies, values.clamp(0, 1) * spread + darkest, images)


def _mixed(images: Tensor, others: Tensor, draws: Tensor) -> Tensor:
    """Each with another one: laid over each other, or a rectangle cut in; draws [N, 5]."""
    height, width = images.shape[2:]
    share = _as_images(draws[:, 1])  # of the image itself, uniform
    overlaid = share * images + (1 - share) * others
    half = (1 - share).sqrt() / 2  # of the sides of a rectangle of the other's share
    rows = (torch.arange(height, device=images.device) + 0.5).view(1, 1, -1, 1) / height
    columns = (torch.arange(width, device=images.device) + 0.5).view(1, 1, 1, -1) / width
    inside = (rows - _as_images(draws[:, 2])).abs() < half
    inside = inside & ((columns - _as_images(draws[:, 3])).abs() < half)  # [N, 1, H, W]
    cut_in = torch.where(inside, others, images)
    mixed = torch.where(_as_images(draws[:, 4] < 0.5), overlaid, cut_in)
    return torch.where(_as_images(draws[:, 0] < _MIXED), mixed, images)
