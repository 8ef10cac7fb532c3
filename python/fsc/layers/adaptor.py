"""A linear map in the place of a residual block, from moments of what the block reads and adds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsc.layers.moments import ACCUMULATOR

# Pull of an adaptor towards the identity, in mean squares of a channel of its input.
DAMPING = 0.01


class Adaptor(nn.Module):
    """A 1x1 convolution with bias, on whichever axis channels are.

    Args:
        weight: [C, C].
        bias: [C].
        axis: of the channels.
    """

    def __init__(self, weight: Tensor, bias: Tensor, axis: int) -> None:
        """Only remembers them."""
        super().__init__()
        self.weight, self.bias, self.axis = weight, bias, axis

    def forward(self, x: Tensor) -> Tensor:
        """Maps every pixel by itself."""
        mixed = nn.functional.linear(x.movedim(self.axis, -1), self.weight, self.bias)
        return mixed.movedim(-1, self.axis)


@dataclass
class BlockMoments:
    """Sums over what a block reads, X, and adds to it, F = Y - X, over all columns.

    Attributes:
        axis: of the channels.
        gram: X X^T, [C, C].
        cross: F X^T, [C, C].
        read: X 1, [C].
        added: F 1, [C].
        columns: how many there are.
    """

    axis: int
    gram: Tensor | float = 0.0
    cross: Tensor | float = 0.0
    read: Tensor | float = 0.0
    added: Tensor | float = 0.0
    columns: int = 0

    def accumulate(self, features: Tensor, output: Tensor) -> None:
        """Takes up one batch."""
        x, y = (
            each.movedim(self.axis, 0).flatten(1).to(ACCUMULATOR) for each in (features, output)
        )  # [C, columns]
        added = y - x
        self.gram = self.gram + x @ x.T
        self.cross = self.cross + added @ x.T
        self.read, self.added = self.read + x.sum(1), self.added + added.sum(1)
        self.columns += x.shape[1]

    def adaptor(self, dtype: torch.dtype) -> Adaptor:
        """A = I + D with D the ridge regression of F on X, both around their means."""
        read, added = torch.as_tensor(self.read), torch.as_tensor(self.added)
        gram, cross = torch.as_tensor(self.gram), torch.as_tensor(self.cross)
        identity = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        pull = DAMPING * gram.diagonal().mean() + torch.finfo(gram.dtype).tiny
        inner = gram - torch.outer(read, read) / self.columns + pull * identity
        outer = cross - torch.outer(added, read) / self.columns
        weight = torch.linalg.solve(inner, outer, left=False)  # D, [C, C]
        bias = (added - weight @ read) / self.columns
        return Adaptor((weight + identity).to(dtype), bias.to(dtype), self.axis)
