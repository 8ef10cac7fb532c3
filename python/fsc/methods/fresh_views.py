"""Views of images made anew for every minibatch, and what is to be given for each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsc.images.original_crops import OriginalCrops
from fsc.images.scale import spread
from fsc.methods.features import computed
from fsc.methods.memory_layout import layout_for
from fsc.methods.minibatches import Begun, Views
from fsc.networks.outputs import tensors_of

# Views of images, by draws of a generator, of those of a minibatch that are wanted.
Maker = Callable[[Tensor, torch.Generator, slice], Tensor]
# What losses look at beforehand.
_MOST_IMAGES = 256


class _Frozen:
    """A network in evaluation mode, on images in the layout with which it takes least."""

    def __init__(self, network: nn.Module, example: Tensor) -> None:
        self.network = network.eval()
        layout = layout_for(network, example)
        self._layout = torch.contiguous_format if layout == torch.preserve_format else layout

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[Tensor]:
        return tensors_of(self.network(images.to(memory_format=self._layout)))


@dataclass(frozen=True)
class FreshViews(Views):
    """Images of which every minibatch sees other views.

    None is seen twice: what a teacher gives is computed for each, on the view itself.

    Args:
        images: [N, C, H, W].
        maker: of views [B, C, H, W] from images, a generator of the CPU and those of the B that are
            wanted; or of views of the files that images were made from.
        batch_size: images that go through a network at once where nothing is trained.
        wanted: what it gives for a view is to be given.
        labels: behind that, int64 [N]; a view has the label of its image.
        seen_through: what it gives for a view is read in its place.
    """

    images: Tensor
    maker: Maker | OriginalCrops
    batch_size: int
    wanted: _Frozen | None = None
    labels: Tensor | None = None
    seen_through: _Frozen | None = None

    @property
    def count(self) -> int:
        """The number of images."""
        return len(self.images)

    @property
    def ahead(self) -> int:
        """How many minibatches are to be begun before they are asked for: those of files."""
        return self.maker.ahead if isinstance(self.maker, OriginalCrops) else 0

    @property
    def example(self) -> Tensor:
        """What a network reads of one of them, [1, ...]."""
        image = self.images[:1]
        return image if self.seen_through is None else self.seen_through(image)[0]

    @property
    def targets(self) -> Sequence[Tensor]:
        """What is to be given for at most 256 images as they are, [1, N, ...] each."""
        if self.wanted is None:
            return ()
        few = spread(self.images, _MOST_IMAGES)[None]
        return computed(self.wanted.network, few, self.batch_size)

    def with_targets(
        self,
        wanted: nn.Module | None = None,
        labels: Tensor | None = None,
        seen_through: nn.Module | None = None,
    ) -> FreshViews:
        """The same views, with what is to be given for them; see `FixedViews.with_targets`."""
        image = self.images[:1]
        frozen = [n if n is None else _Frozen(n, image) for n in (wanted, seen_through)]
        return replace(self, wanted=frozen[0], labels=labels, seen_through=frozen[1])

    def begin(self, chosen: Tensor, generator: torch.Generator, own: slice = slice(None)) -> Begun:
        """Other views of the chosen images, and what goes with them."""
        drawn = chosen.to(self.images.device)
        if isinstance(self.maker, OriginalCrops):
            made = self.maker.begin(chosen, generator, own)
            return lambda layout: self._given(made(), drawn[own], layout)
        views = self.maker(self.images[drawn], generator, own)
        return lambda layout: self._given(views, drawn[own], layout)

    def _given(
        self, views: Tensor, drawn: Tensor, layout: torch.memory_format
    ) -> tuple[Tensor, list[Tensor]]:
        """What a network reads of views of the drawn images, and what it is to give for them."""
        if self.seen_through is None:
            views = views.to(memory_format=layout)
        targets = [] if self.wanted is None else self.wanted(views)
        if self.labels is not None:
            targets.append(self.labels[drawn])
        return views if self.seen_through is None else self.seen_through(views)[0], targets
