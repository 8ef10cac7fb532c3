"""From an image file to what a network reads: decoded, resized, cut to a square, normalised."""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fsc.arguments import as_channel_numbers, check_fields
from fsc.files import reason
from fsc.wording import shown

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# No other decoder of Pillow is given a file, whatever its name.
_FORMATS = ("JPEG", "PNG", "WEBP")
_MODES = {1: "L", 3: "RGB"}
_INTERPOLATIONS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
_DECODING_ERRORS = (
    OSError, SyntaxError, ValueError, TypeError, IndexError, KeyError, EOFError, MemoryError,
    OverflowError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip


@dataclass(frozen=True)
class Preparation:
    """How images become what a network reads; the steps are those of torchvision, on Pillow images.

    1. resize, antialiased, so that the shorter side has `size[0]` pixels; the longer one is cut off
       to an integer;
    2. cut the middle `size[1]` x `size[1]` pixels out;
    3. y = (x / 255 - mean) / std for each channel.

    Networks for ImageNet are mostly evaluated with (256, 224), 0.875 of the shorter side.

    Attributes:
        size: (shorter side, crop), or one number for both; None: images stay as large as they are.
        mean: one number for each channel, 3 for RGB and 1 for grey, for values between 0 and 1.
        std: likewise, positive.
        interpolation: "bilinear" or "bicubic".

    Raises:
        ValueError: a size that is not positive or smaller than its crop, statistics that do not fit
            each other, or an unknown interpolation.
        TypeError: an argument is of the wrong type.

    Example:
        >>> Preparation(224).size
        (224, 224)
    """

    size: tuple[int, int] | int | None = None
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        """Checks the numbers."""
        check_fields(self)
        object.__setattr__(self, "size", _size(self.size))
        for argument in ("mean", "std"):
            numbers = as_channel_numbers(argument, getattr(self, argument))
            object.__setattr__(self, argument, numbers)
        if len(self.mean) not in _MODES or len(self.std) != len(self.mean):
            raise ValueError(
                "mean and std must have one number for each channel, 3 or 1, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if not all(np.isfinite(self.mean + self.std)) or min(self.std) <= 0:
            raise ValueError(f"std must be positive and mean finite, got {self.std}, {self.mean}")
        if self.interpolation not in _INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {', '.join(_INTERPOLATIONS)}, "
                f"got {shown(self.interpolation)}"
            )

    @property
    def resampling(self) -> Image.Resampling:
        """How Pillow resizes."""
        return _INTERPOLATIONS[self.interpolation]

    def statistics(self, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Mean and std, float32 [C, 1, 1] each, to go with values between 0 and 1."""
        both = (torch.tensor(each, device=device) for each in (self.mean, self.std))
        mean, std = (each.view(-1, 1, 1) for each in both)
        return mean, std

    def decoded(self, path: str | os.PathLike[str]) -> Image.Image:
        """Decode one image file, as large as it is there.

        Colours become grey where the network reads one channel, and grey colours where it reads
        three. Transparency and the orientation that a camera noted are ignored, as by torchvision.

        Raises:
            ValueError: the file is damaged, is no JPEG, PNG or WebP, or has more than 8 bits a
                channel.
            OSError: it cannot be opened.
        """
        with _opened(path) as image:
            _check_depth(image, path)
            try:
                # A palette with transparency goes through RGBA, or Pillow warns.
                wide = image.convert("RGBA") if image.mode in ("P", "PA") else image
                return wide.convert(_MODES[len(self.mean)])
            except _DECODING_ERRORS as error:
                raise ValueError(f"image {path} is damaged: {reason(error)}") from error

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """Decode and prepare one image file.

        Returns:
            float32 [C, H, W].

        Raises:
            ValueError: what `decoded` raises, or the image would be too large.
            OSError: it cannot be opened.
        """
        decoded = self.decoded(path)
        try:
            square = self._square(decoded)
        except _DECODING_ERRORS as error:
            raise ValueError(
                f"size must be one that image {path}, {decoded.width} x {decoded.height}, can be "
                f"brought to, got {self.size}: {reason(error)}"
            ) from error
        pixels = np.array(square, dtype=np.uint8)  # [H, W] or [H, W, C]
        x = torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1).float()
        mean, std = self.statistics()
        x = (x / 255 - mean) / std
        return x.contiguous()

    def _square(self, image: Image.Image) -> Image.Image:
        if self.size is None:
            return image
        assert isinstance(self.size, tuple)
        shorter, crop = self.size
        width, height = image.size
        if min(width, height) != shorter:
            longer = int(shorter * max(width, height) / min(width, height))
            new = (shorter, longer) if width <= height else (longer, shorter)
            image = image.resize(new, self.resampling)
        left, top = (round((side - crop) / 2) for side in image.size)
        return image.crop((left, top, left + crop, top + crop))

    def __str__(self) -> str:
        """What is done, in words."""
        numbers = [" ".join(f"{value:.4g}" for value in each) for each in (self.mean, self.std)]
        normalised = f"minus {numbers[0]}, divided by {numbers[1]}"
        if self.size is None:
            return f"as large as they are, {normalised}"
        assert isinstance(self.size, tuple)
        shorter, crop = self.size
        resized = f"shorter side {shorter} ({self.interpolation}), the middle {crop} x {crop}"
        return f"{resized}, {normalised}"


def _size(given: Any) -> tuple[int, int] | None:
    """Shorter side and crop.

    Raises:
        ValueError: no image can be made so large.
        TypeError: they are no integers.
    """
    if given is None:
        return None
    listed = given.tolist() if isinstance(given, np.ndarray | Tensor) else given
    size = listed if isinstance(listed, Sequence) else (listed, listed)
    if len(size) != 2 or not all(map(_is_whole, size)):
        raise TypeError(f"size must be an integer, two of them or None, got {shown(listed)}")
    if min(size) < 1 or size[0] < size[1]:
        raise ValueError(
            "size must be a positive number of pixels, or a shorter side and a crop that "
            f"is no larger, got {given}"
        )
    return int(size[0]), int(size[1])


def _is_whole(value: Any) -> bool:
    """Whether a number has no fraction; True and False are none."""
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    return is_number and float(value).is_integer()


def dimensions(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Width and height of an image file, from its head alone.

    Raises:
        ValueError: it is damaged, or no JPEG, PNG or WebP.
        OSError: it cannot be opened.
    """
    with _opened(path) as image:
        return image.size


def _opened(path: str | os.PathLike[str]) -> Image.Image:
    check_is_file(path)
    try:
        image = Image.open(path, formats=_FORMATS)
    except Image.UnidentifiedImageError as error:
        empty = Path(path).stat().st_size == 0
        what = "is empty" if empty else "is damaged or no JPEG, PNG or WebP"
        raise ValueError(f"image {path} {what}") from error
    except _DECODING_ERRORS as error:
        # Those of the system have a number, Pillow's own have none.
        if isinstance(error, OSError) and error.errno:
            raise OSError(f"image {path} cannot be read: {reason(error)}") from error
        raise ValueError(f"image {path} is damaged: {reason(error)}") from error
    # At these Pillow only warns, and refuses twice as many; they would take most of a gigabyte.
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and image.width * image.height > most:
        image.close()
        raise ValueError(
            f"image {path} must have at most {most:,} pixels, PIL.Image.MAX_IMAGE_PIXELS, got "
            f"{image.width} x {image.height}"
        )
    return image


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Make sure that reading comes to an end: a pipe or a device gives what it likes.

    Raises:
        OSError: it is one, or there is nothing.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise OSError(f"image {path} cannot be read: {reason(error)}") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError(f"image {path} cannot be read: it is no file")


def _check_depth(image: Image.Image, path: str | os.PathLike[str]) -> None:
    # Pillow would cut their values off at 255.
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"image {path} must have 8 bits a channel, got mode {image.mode}")
