"""More images from a handful: mirror images, crops and rotations, mixtures, all of it at once.

Cross Distillation (Bai et al., AAAI 2020, Table 14) combines its losses with the first three; its
other tables do without. Noise on hidden features is `CrossDistillation(noise=...)`.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fsc.images.checks import check_images
from fsc.images.hard_augmentation import hardened
from fsc.images.names import AUGMENTATIONS
from fsc.wording import shown

# Of images that join those given, 64 MB in float32; what a walk holds is some twenty times that.
_MOST_VALUES = 1 << 24
_MAX_SHIFT = 0.125  # of the image's side: 4 pixels of 32
_MAX_DEGREES = 15.0


def augmented(images: Tensor, kind: str, *, copies: int = 1, seed: int = 0) -> Tensor:
    """The images, followed by new ones made from them.

    Args:
        images: [N, C, H, W], normalised.
        kind: "mirror" (horizontally), "crop" (shifted by up to an eighth of the side and turned by
            up to 15 degrees; what comes in from outside is 0, the mean colour) or "mixup" (two
            images in a ratio drawn uniformly, Zhang et al., 2018), or "hard" (mirrored, zoomed,
            turned, shifted, recoloured and half of them mixed; `fsc.images.hard_augmentation`).
        copies: new images for each given one; mirror images exist once.
        seed: of the draws.

    Returns:
        [(1 + copies) N, C, H, W]

    Raises:
        TypeError: images are no tensor.
        ValueError: the kind is unknown, copies is below 1, or images are not floating point
            [N, C, H, W].

    Example:
        >>> augmented(torch.randn(4, 3, 8, 8), "mixup", copies=2).shape
        torch.Size([12, 3, 8, 8])
    """
    if kind not in AUGMENTATIONS:
        raise ValueError(f"kind must be one of {', '.join(AUGMENTATIONS)}, got {shown(kind)}")
    if copies < 1 or (kind == "mirror" and copies > 1):
        most = "1" if kind == "mirror" else "at least 1"
        raise ValueError(f"copies must be {most} for {kind}, got {copies}")
    check_images("augmented", images)
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([images, *(_MAKERS[kind](images, generator) for _ in range(copies))])


def filled_up(images: Tensor, count: int, *, seed: int = 0) -> Tensor:
    """The images, their mirror images and hard ones made from them, until there are enough.

    Args:
        images: [N, C, H, W], normalised; at other ranks they stay alone, as where N is `count`.
        count: how many are wanted.
        seed: of the draws.

    Returns:
        [max(N, count), C, H, W]

    Example:
        >>> filled_up(torch.randn(4, 3, 8, 8), 10).shape
        torch.Size([10, 3, 8, 8])
    """
    parts, missing = [images], count - len(images)
    if images.ndim != 4 or missing <= 0:
        return images
    generator = torch.Generator().manual_seed(seed)
    while missing > 0:
        new = images.flip(3) if len(parts) == 1 else hardened(images, generator)
        # Images may come class after class: what is left out is drawn.
        order = torch.randperm(len(new), generator=generator, device="cpu")
        parts.append(new[order[:missing].sort().values.to(new.device)])
        missing -= len(new)
    return torch.cat(parts)


def enough(given: int, wanted: int, values: int) -> int:
    """How many images layers are to be solved on: no more join than a walk can hold.

    Args:
        given: how many there are.
        wanted: how many there should be.
        values: of one image.

    Returns:
        `wanted`, or as many as have 2^24 values together, but at least `given`.

    Example:
        >>> enough(50, 400, 3 * 32 * 32), enough(50, 400, 3 * 224 * 224)
        (400, 111)
    """
    return max(given, min(wanted, _MOST_VALUES // values))


def mirrored(images: Tensor) -> Tensor | None:
    """Mirror images of what has a left and a right, [N, C, H, W] or [N, C, D, H, W]; else None.

    A signal [N, C, L] played backwards is another one.
    """
    return images.flip(-1) if images.ndim in (4, 5) else None


def randomly_mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images [N, ...] of which every other one is mirrored, by draws; signals stay as they are."""
    mirror = mirrored(images)
    if mirror is None:
        return images
    flip = (torch.rand(len(images), generator=generator, device="cpu") < 0.5).to(images.device)
    return torch.where(flip.view(-1, *[1] * (images.ndim - 1)), mirror, images)


def _mirror(images: Tensor, generator: torch.Generator) -> Tensor:
    return images.flip(3)


def _crop(images: Tensor, generator: torch.Generator) -> Tensor:
    draws = torch.rand(len(images), 3, generator=generator, device="cpu")
    draws = 2 * draws.to(images) - 1  # [N, 3]
    angle = draws[:, 0] * math.radians(_MAX_DEGREES)
    # Coordinates run from -1 to 1, so a share of the side is twice as much in them.
    shift = 2 * _MAX_SHIFT * draws[:, 1:]
    cos, sin = angle.cos(), angle.sin()
    # One unit is half a side, so that an angle is one only where both sides are as long.
    aspect = images.shape[2] / images.shape[3]
    rows = [
        torch.stack([cos, -sin * aspect, shift[:, 0]], 1),
        torch.stack([sin / aspect, cos, shift[:, 1]], 1),
    ]
    shape = list(images.shape)
    grid = torch.nn.functional.affine_grid(torch.stack(rows, 1), shape, align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, align_corners=False)


def _mixup(images: Tensor, generator: torch.Generator) -> Tensor:
    partner = torch.randperm(len(images), generator=generator, device="cpu").to(images.device)
    share = torch.rand(len(images), 1, 1, 1, generator=generator, device="cpu").to(images)
    return share * images + (1 - share) * images[partner]


_MAKERS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = dict(
    zip(AUGMENTATIONS, (_mirror, _crop, _mixup, hardened), strict=True)
)
