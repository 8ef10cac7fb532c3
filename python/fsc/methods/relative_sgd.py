"""SGD of which every weight moves by a share of its own size, however long its gradient is.

A layer whose gradients are long and one whose gradients are short need rates of their own, and the
few minibatches of a training here are not enough to find those by waiting. Each tensor w of weights
moves along its momentum v by

    w <- w - rate max(||w||, 0.01 sqrt(n)) v / ||v||,  v = g + momentum b,  b <- momentum b + g

with n its number of values, so that zeros can grow as well. (You et al., "Large Batch Training of
Convolutional Networks", 2017, LARS; here the length is taken behind the momentum and not before it,
as You et al. do in LAMB, 2020.)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

# A weight of zeros moves as one whose values are so large.
_LEAST_VALUE = 0.01


class RelativeSGD(torch.optim.Optimizer):
    """Moves every tensor of weights by a share of its norm.

    Args:
        parameters: the weights.
        lr: the share, of one step.
        momentum: of gradients, that of Nesterov.
        weight_decay: times the weights, is added to gradients.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        """Starts with no momentum."""
        self._momentum = momentum
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Takes one step; weights without gradients stay."""
        for group in self.param_groups:
            weights = [each for each in group["params"] if each.grad is not None]
            gradients = [each.grad for each in weights]
            if weights:
                self._move(weights, gradients, group["lr"], group["weight_decay"])

    def _move(
        self, weights: list[Tensor], gradients: list[Tensor], rate: float, decay: float
    ) -> None:
        gradients = list(torch._foreach_add(gradients, weights, alpha=decay))
        kept = [self._buffer(each) for each in weights]
        torch._foreach_mul_(kept, self._momentum)
        torch._foreach_add_(kept, gradients)
        moves = torch._foreach_add(gradients, kept, alpha=self._momentum)
        lengths, sizes = torch._foreach_norm(moves), torch._foreach_norm(weights)
        shares = [
            # Nothing to divide by: where there is no gradient there is no direction either.
            rate
            * size.clamp(min=_LEAST_VALUE * math.sqrt(weight.numel()))
            / length.clamp(min=1e-30)
            for weight, size, length in zip(weights, sizes, lengths, strict=True)
        ]
        torch._foreach_mul_(moves, shares)
        torch._foreach_sub_(weights, moves)

    def _buffer(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer: Tensor = state["momentum_buffer"]
        return buffer
