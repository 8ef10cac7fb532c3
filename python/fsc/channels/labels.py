"""Labels of channels: which belong together, and which may not go.

Every channel that a layer makes has a label, an integer from 0; what no layer makes, such as the
pixels of the images, has NONE. Labels that must stay or go together are joined, and labels that
must stay are frozen with the reason.
"""

from __future__ import annotations

import torch
from torch import Tensor

NONE = -1
MADE_BY_NONE = (
    "they meet channels that no layer makes, such as zeros that widen a shortcut, or the images"
)


def present(labels: Tensor) -> Tensor:
    """The different labels of a tensor of any shape, in order, without NONE."""
    if labels.numel() == 0:
        return labels.flatten()
    found = torch.zeros(int(labels.max()) + 2, dtype=torch.bool, device="cpu")
    found[labels.flatten() + 1] = True  # NONE at 0
    return found[1:].nonzero().flatten()


class Labels:
    """Labels made so far, joined in classes (union-find), with the reasons why some must stay."""

    def __init__(self) -> None:
        """Starts without labels."""
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}
        self._roots: Tensor | None = None  # of all labels, NONE last, until classes change

    def make(self, count: int) -> Tensor:
        """New labels, [count] int64."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        self._roots = None
        return torch.arange(start, start + count, device="cpu")

    def root(self, label: int) -> int:
        """The one label that stands for a class."""
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label

    def roots(self, labels: Tensor) -> Tensor:
        """The label that stands for each one's class; NONE stays NONE. Any shape."""
        if self._roots is None:
            found = torch.tensor([*self._parents, NONE], device="cpu")
            # All of them at once: each step halves the way to a root, and NONE stays at the end.
            while not torch.equal(found, further := found[found]):
                found = further
            self._roots = found
        return self._roots[labels]

    def join(self, first: Tensor, second: Tensor) -> None:
        """Make classes of pairs one, [P] each; who is joined with NONE must stay."""
        span = len(self._parents) + 1  # a pair as one number, since those are sorted faster
        pairs = (self.roots(first) + 1) * span + self.roots(second) + 1
        for pair in pairs.unique().tolist():
            one, other = sorted((pair // span - 1, pair % span - 1))
            if one == NONE:
                self.freeze(torch.tensor([other], device="cpu"), MADE_BY_NONE)
            else:
                self._unite(self.root(one), self.root(other))

    def _unite(self, one: int, other: int) -> None:
        if one == other:
            return
        self._parents[other] = one
        self._roots = None
        if other in self._reasons:
            self._reasons.setdefault(one, self._reasons.pop(other))

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Classes that must stay, any shape; the first reason is kept."""
        for label in present(self.roots(labels)).tolist():
            self._reasons.setdefault(label, reason)

    def reason(self, label: int) -> str | None:
        """Why the class of a label must stay, None where it may go."""
        return self._reasons.get(self.root(label))

    def along(self, labels: Tensor, axis: int) -> Tensor:
        """One label an index of an axis, for layers whose weights are indexed by it, [size].

        What stands at the same index, be it at other pixels, goes together from now on: four
        channels that a pixel shuffle has made one, or the 16 features of a Linear that a view has
        made one channel of 4x4 pixels.
        """
        rows = self.roots(labels).movedim(axis, 0).reshape(labels.shape[axis], -1)  # [size, rest]
        first = rows[:, 0]
        differs = rows != first[:, None]
        if differs.any():
            self.join(first[:, None].expand_as(rows)[differs], rows[differs])
            first = self.roots(first)
        return first
