"""The same few views of every image, with what is to be given for them found once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsc.images.augmentation import mirrored
from fsc.methods.features import computed
from fsc.methods.minibatches import Begun, Views
from fsc.progress import Progress


@dataclass(frozen=True)
class FixedViews(Views):
    """Images as they are and mirrored; as they are alone where they have no mirror image.

    Args:
        images: [V, N, ...], V views of every image; for layers that do not read images, what they
            read.
        batch_size: images that go through a network at once where nothing is trained.
        targets: what goes with them, [V, N, ...] each: features, scores or labels.
        progress: told of what is found for them.
    """

    images: Tensor
    batch_size: int
    targets: Sequence[Tensor] = ()
    progress: Progress | None = None

    @classmethod
    def of(cls, images: Tensor, batch_size: int, progress: Progress | None = None) -> FixedViews:
        """The views of images [N, ...]."""
        mirror = mirrored(images)
        views = torch.stack([images] if mirror is None else [images, mirror])
        return cls(views, batch_size, progress=progress)

    @property
    def count(self) -> int:
        """The number of images."""
        return self.images.shape[1]

    @property
    def example(self) -> Tensor:
        """What a network reads of one of them, [1, ...]."""
        return self.images[0, :1]

    def with_targets(
        self,
        wanted: nn.Module | None = None,
        labels: Tensor | None = None,
        seen_through: nn.Module | None = None,
    ) -> FixedViews:
        """The same views, with what is to be given for them.

        Args:
            wanted: what it gives for a view is to be given.
            labels: behind that, int64 [N]; the same for every view.
            seen_through: what it gives for a view is read in its place.
        """
        targets = [] if wanted is None else self._computed(wanted)
        if labels is not None:
            targets.append(labels.expand(len(self.images), len(labels)))
        images = self.images
        if seen_through is not None:
            (images,) = self._computed(seen_through)
        return replace(self, images=images, targets=targets)

    def _computed(self, network: nn.Module) -> list[Tensor]:
        return computed(network, self.images, self.batch_size, self.progress)

    def begin(self, chosen: Tensor, generator: torch.Generator, own: slice = slice(None)) -> Begun:
        """One of the views of each chosen image, and what goes with it."""
        view = torch.randint(len(self.images), (len(chosen),), generator=generator, device="cpu")

        def given(layout: torch.memory_format) -> tuple[Tensor, list[Tensor]]:
            drawn = view[own].to(self.images.device), chosen[own].to(self.images.device)
            images = self.images[drawn].to(memory_format=layout)
            return images, [target[drawn] for target in self.targets]

        return given
