"""Random resized crops of image files, at their own resolution, made by threads ahead of time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fsc.images.crops import random_parts
from fsc.images.folder import ImageFolder
from fsc.images.preparation import dimensions

# Of decoded files in memory: 2,600 photographs of 500 x 375 pixels.
KEPT_BYTES = 2 * 10**9
_MOST_WORKERS = 8
# Pillow has a fourth byte for every pixel with colours.
_BYTES = {1: 1, 3: 4}


class OriginalCrops:
    """Parts of image files, resized to what a network reads and mirrored one time in two.

    They are drawn from the whole file, whatever its size, as torchvision's RandomResizedCrop draws
    them (`fsc.images.crops.random_boxes`), cut out, resized by Pillow with antialiasing and
    normalised, as `folder.preparation` has it. Numbers are drawn where a minibatch is begun; what
    threads do afterwards depends on nothing else.

    Args:
        folder: the files.
        images: what was made of them, [N, C, H, W]: crops have this size, dtype and device.
        budget: bytes of decoded files that are kept; the others are decoded again each time.
        workers: threads. 0: that of whoever asks. None: as many as torch computes with, at most 8.

    Attributes:
        ahead: how many minibatches are best begun before they are asked for.

    Raises:
        ValueError, OSError: what `fsc.images.preparation.dimensions` raises.
    """

    ahead: ClassVar[int] = 2

    def __init__(
        self,
        folder: ImageFolder,
        images: Tensor,
        budget: int = KEPT_BYTES,
        workers: int | None = None,
    ) -> None:
        """Reads the heads of all files."""
        self._files, self._preparation = folder.files, folder.preparation
        self._example = images[:1]
        self._sizes = [dimensions(file) for file in self._files]  # width, height
        self._sides = torch.tensor(self._sizes, device="cpu").view(-1, 2)
        channels = images.shape[1]
        taken = accumulate(_BYTES[channels] * width * height for width, height in self._sizes)
        self._is_kept = [total <= budget for total in taken]
        self._kept: dict[int, Image.Image] = {}
        self._statistics = self._preparation.statistics(images.device)
        count = min(_MOST_WORKERS, torch.get_num_threads()) if workers is None else workers
        self._pool = ThreadPoolExecutor(count, "fsc crops") if count else None

    def begin(
        self, chosen: Tensor, generator: torch.Generator, own: slice = slice(None)
    ) -> Callable[[], Tensor]:
        """Draw a part of each chosen file, and let threads make those that are wanted.

        Args:
            chosen: which files, int64 [B], on the CPU.
            generator: of the CPU; the same state gives the same bits.
            own: those of the B whose parts are wanted; numbers are drawn for all.

        Returns:
            What waits for them and gives them, [B, C, H, W] or fewer; it raises ValueError for a
            file that is damaged or is another by now, OSError for one that cannot be read.
        """
        width, height = self._sides[chosen].unbind(1)
        boxes, mirrored = random_parts(len(chosen), height, width, generator)
        jobs = zip(chosen[own].tolist(), boxes[own].tolist(), mirrored[own].tolist(), strict=True)
        shape = (len(chosen[own]), *self._example.shape[1:])
        pixels = torch.empty(
            shape, dtype=torch.uint8, device="cpu", pin_memory=self._example.is_cuda
        )
        made = [
            self._started(partial(self._write, place, *job))
            for place, job in zip(pixels.numpy(), jobs, strict=True)
        ]

        def finished() -> Tensor:
            for wait in made:
                wait()
            return self._normalised(pixels)

        return finished

    def _started(self, work: Callable[[], None]) -> Callable[[], None]:
        """What waits for some work that a thread has begun; without threads the work itself."""
        return work if self._pool is None else self._pool.submit(work).result

    def _write(self, place: np.ndarray, index: int, box: list[int], mirrored: bool) -> None:
        """Make a part of a file, uint8 [C, H, W]."""
        top, left, height, width = box
        # Cut before: Pillow would mix in what lies around a box.
        part = self._original(index).crop((left, top, left + width, top + height))
        channels, height, width = place.shape
        part = part.resize((width, height), self._preparation.resampling)
        values = np.asarray(part).reshape(height, width, channels)
        place[:] = (values[:, ::-1] if mirrored else values).transpose(2, 0, 1)

    def _original(self, index: int) -> Image.Image:
        """A file, decoded."""
        found = self._kept.get(index)
        if found is not None:
            return found
        file = self._files[index]
        image = self._preparation.decoded(file)
        if image.size != self._sizes[index]:
            width, height = self._sizes[index]
            raise ValueError(
                f"image {file} must stay as it is while a method is trained on it, got "
                f"{image.width} x {image.height} pixels, which were {width} x {height}"
            )
        if self._is_kept[index]:
            self._kept[index] = image
        return image

    def _normalised(self, pixels: Tensor) -> Tensor:
        """Bytes [B, C, H, W] as a network reads them."""
        mean, std = self._statistics
        # As few bytes as possible go to the device, and nobody waits for them.
        x = pixels.to(self._example.device, non_blocking=True).float()
        return x.div_(255).sub_(mean).div_(std).to(self._example.dtype)
