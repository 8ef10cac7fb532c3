"""Noise on hidden features, the paper's Gauss. (Bai et al., AAAI 2020, Table 14)."""

from __future__ import annotations

import torch
from torch import Tensor

from fsc import ranks


class Noise:
    """Noise of a share of the largest feature of each image.

    Args:
        share: of the largest feature; 0: none, and nothing is drawn.
        num_images: of all ranks together.
    """

    def __init__(self, share: float, num_images: int) -> None:
        """Draws nothing yet."""
        self._share = share
        self._before = ranks.own(num_images).start  # images of the ranks before this one
        self._generator = torch.Generator()

    def begin(self, seed: int, image: Tensor) -> None:
        """Starts anew for a layer that reads images like this one, [...]."""
        self._generator.manual_seed(seed)
        for _ in range(self._before if self._share else 0):
            self._drawn(image)

    def added(self, features: Tensor) -> Tensor:
        """The features of a batch, [N, ...], with noise."""
        if self._share == 0:
            return features
        # Image by image, so that the result does not depend on the batch size.
        draws = [self._drawn(image) for image in features]
        largest = features.amax(tuple(range(1, features.ndim)), keepdim=True)  # [N, 1, ...]
        return features + self._share * largest * torch.stack(draws).to(features)

    def _drawn(self, image: Tensor) -> Tensor:
        return torch.randn(image.shape, generator=self._generator, device="cpu")
