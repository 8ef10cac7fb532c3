"""SGD of which every tensor of weights moves by a share of its size, however long its gradient is.

A layer whose gradients are long and one whose gradients are short need rates of their own, and a
few hundred minibatches are not enough to find those. A tensor w with the gradient g moves by

    b <- momentum b + g,  v = g + momentum b
    w <- (1 - rate decay) w - rate max(||w||, 0.01 sqrt(n)) v / (||v|| + 1e-8 sqrt(n))

with n its number of values: zeros can grow as well, and gradients that are no more than what is
left of rounding move next to nothing, as in Adam. Biases and BatchNorms move so, too. (You et al.,
"Large Batch Training of Convolutional Networks", 2017, LARS; here the length is taken behind
Nesterov's momentum and not before it, as in LAMB, You et al., 2020.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

# A tensor of zeros moves as one whose values are so large.
_LEAST_VALUE = 0.01
# Of gradients: where values are smaller, moves are.
_LEAST_GRADIENT = 1e-8


class RelativeSGD(torch.optim.Optimizer):
    """Moves every tensor of weights by a share of its norm.

    Args:
        parameters: the weights.
        lr: the share, of one step.
        momentum: of gradients, that of Nesterov.
        weight_decay: share of the weights, times `lr`, that goes at every step.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        """Starts with no momentum."""
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Takes one step; weights without gradients stay.

        Args:
            closure: computes gradients and returns the loss, which is given back.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [each for each in group["params"] if each.grad is not None]
            if weights:
                moves = self._directions(weights, group["momentum"])
                _move(weights, moves, group["lr"], group["weight_decay"])
        return loss

    def _directions(self, weights: list[Tensor], momentum: float) -> list[Tensor]:
        """Gradients with their momentum, which is kept; in the shapes of the weights."""
        gradients = [each.grad for each in weights if each.grad is not None]
        kept = [
            self.state[each].setdefault("momentum_buffer", torch.zeros_like(each))
            for each in weights
        ]
        torch._foreach_mul_(kept, momentum)
        torch._foreach_add_(kept, gradients)
        return list(torch._foreach_add(gradients, kept, alpha=momentum))


def _move(weights: list[Tensor], moves: list[Tensor], rate: float, decay: float) -> None:
    """Moves weights in place; what they move along is used up."""
    # In float64: squares of small gradients are none in float32.
    sizes, lengths = (torch._foreach_norm(each, 2, torch.float64) for each in (weights, moves))
    shares = []
    for weight, size, length in zip(weights, sizes, lengths, strict=True):
        root = math.sqrt(weight.numel())
        share = size.clamp(min=_LEAST_VALUE * root) / (length + _LEAST_GRADIENT * root)
        shares.append(rate * share)
    torch._foreach_mul_(moves, shares)
    torch._foreach_mul_(weights, 1 - rate * decay)
    torch._foreach_sub_(weights, moves)
