"""What a training is fed with: minibatches of views, some of them begun before their step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsc import ranks

# A layout in memory -> (what a network reads [B, ...], what it is to give for that, [B, ...] each).
Begun = Callable[[torch.memory_format], tuple[Tensor, Sequence[Tensor]]]


class Views(ABC):
    """What a lesson takes its minibatches from: views of images, with what goes with them."""

    @property
    @abstractmethod
    def count(self) -> int:
        """The number of images."""

    @property
    @abstractmethod
    def example(self) -> Tensor:
        """What a network reads of one of them, [1, ...]."""

    @property
    def ahead(self) -> int:
        """How many minibatches are to be begun before they are asked for."""
        return 0

    @abstractmethod
    def begin(self, chosen: Tensor, generator: torch.Generator, own: slice = slice(None)) -> Begun:
        """Draw a view of some images, and let it be made.

        Args:
            chosen: which images, int64 [B], on the CPU.
            generator: of the CPU, for all that is drawn: its state decides what comes next.
            own: those of the chosen that are wanted; what is drawn is drawn for all.

        Returns:
            What gives it, with what goes with it, in a layout that a network reads.
        """

    def draw(
        self,
        chosen: Tensor,
        generator: torch.Generator,
        layout: torch.memory_format,
        own: slice = slice(None),
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """A view of some images, and what goes with it; see `begin`."""
        return self.begin(chosen, generator, own)(layout)


@dataclass(frozen=True)
class Minibatch:
    """A part of a minibatch.

    Attributes:
        images: that a network reads, [B, ...].
        wanted: what it is to give for them, [B, ...] each.
        share: of the minibatch that they are; 0 where they are there for form's sake.
    """

    images: Tensor
    wanted: Sequence[Tensor]
    share: float


@dataclass(frozen=True)
class _Ahead:
    """A minibatch that is begun, with what its numbers were drawn from."""

    begun: Begun
    share: float
    before: dict[str, Tensor]


class Minibatches:
    """All images in one order after another, some at a time, a new view of each.

    All ranks draw the same, and each makes its part. How far ahead of the steps it is drawn changes
    nothing: only this draws from its generator.

    Args:
        views: of the images.
        size: images of a minibatch; all of them where there are fewer.
        steps: how many are taken; no more are begun ahead.
        seed: of all draws.
    """

    def __init__(self, views: Views, size: int, steps: int, seed: int) -> None:
        """Begins none."""
        self._views, self._size, self._steps = views, size, steps
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64, device="cpu")  # of this pass still to come
        self._ahead: deque[_Ahead] = deque()
        self._num_begun = 0

    def take(self, layout: torch.memory_format) -> Minibatch:
        """The next one, of which this rank has its part, once those behind it are begun."""
        first = self._ahead.popleft() if self._ahead else self._begin()
        while len(self._ahead) < self._views.ahead and self._num_begun < self._steps:
            self._ahead.append(self._begin())
        return Minibatch(*first.begun(layout), first.share)

    def state(self) -> dict[str, Tensor]:
        """What the minibatches that are not taken yet depend on."""
        return self._ahead[0].before if self._ahead else self._now()

    def restore(self, state: Mapping[str, Tensor], num_taken: int) -> None:
        """Goes on where another stopped that had given so many."""
        self._order = state["order"]
        self._generator.set_state(state["generator"])
        self._ahead.clear()
        self._num_begun = num_taken

    def _now(self) -> dict[str, Tensor]:
        return {"order": self._order, "generator": self._generator.get_state()}

    def _begin(self) -> _Ahead:
        before = self._now()
        if not len(self._order):
            self._order = torch.randperm(self._views.count, generator=self._generator, device="cpu")
        chosen, self._order = self._order[: self._size], self._order[self._size :]
        self._num_begun += 1
        own = ranks.own(len(chosen))
        share = (own.stop - own.start) / len(chosen)
        # Where there are fewer images than ranks some take one that counts nothing.
        own = own if share else slice(0, 1)
        return _Ahead(self._views.begin(chosen, self._generator, own), share, before)
