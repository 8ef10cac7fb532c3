"""Labels of channels: which belong together, and which may not go.

Every channel that a layer makes has a label, an integer from 0; what no layer makes, such as the
pixels of the images, has NONE. Labels that must stay or go together are joined, and labels that
must stay are frozen with the reason.
"""

from __future__ import annotations

import torch
from torch import Tensor

NONE = -1


class Labels:
    """Labels made so far, joined in classes (union-find), with the reasons why some must stay."""

    def __init__(self) -> None:
        """Starts without labels."""
        self._parents: list[int] = []
        self._reasons: dict[int, str] = {}

    def make(self, count: int) -> Tensor:
        """New labels, [count] int64."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def root(self, label: int) -> int:
        """The one label that stands for a class."""
        while self._parents[label] != label:
            self._parents[label] = self._parents[self._parents[label]]
            label = self._parents[label]
        return label

    def roots(self, labels: Tensor) -> Tensor:
        """The label that stands for each one's class; NONE stays NONE. Any shape."""
        unique, places = labels.unique(return_inverse=True)
        found = [NONE if label == NONE else self.root(label) for label in unique.tolist()]
        return torch.tensor(found, dtype=torch.int64)[places]

    def join(self, first: Tensor, second: Tensor) -> None:
        """Make classes of pairs one, [P] each; who is joined with NONE must stay."""
        for one, other in torch.stack([first, second], 1).unique(dim=0).tolist():
            if NONE in (one, other):
                self.freeze(torch.tensor([one, other]), "it meets channels that no layer makes")
                continue
            one, other = sorted((self.root(one), self.root(other)))
            if one != other:
                self._parents[other] = one
                if other in self._reasons:
                    self._reasons.setdefault(one, self._reasons.pop(other))

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Classes that must stay, any shape; the first reason is kept."""
        for label in labels.unique().tolist():
            if label != NONE:
                self._reasons.setdefault(self.root(label), reason)

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
