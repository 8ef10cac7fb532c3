"""Mean and variance of the channels of a value, batch after batch, over all ranks."""

from __future__ import annotations

import torch
from torch import Tensor

from fsc import ranks


class ChannelSums:
    """Of every channel of a value: how often it was seen, its sum and that of its square.

    Args:
        device: where the value is.
        axis: along which its channels lie.
    """

    def __init__(self, device: torch.device | str, axis: int = 1) -> None:
        """Starts from zero images."""
        self.count, self.axis = 0, axis
        self.of_values = torch.zeros(1, device=device)  # [C] float64, as is the next
        self.of_squares = self.of_values

    def add(self, value: Tensor) -> None:
        """Takes up one batch, [N, C, ...], or [N, ..., C] where the axis is the last."""
        self.count += value.select(self.axis, 0).numel()
        channels = self.axis % value.ndim
        others = [axis for axis in range(value.ndim) if axis != channels]
        wide = value.double()
        self.of_values = self.of_values + wide.sum(others)
        self.of_squares = self.of_squares + wide.square().sum(others)

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance [C] float64 over all ranks: every rank has to ask."""
        values, squares = self.of_values.clone(), self.of_squares.clone()
        ranks.add_up(values, squares)
        count = ranks.total(self.count)
        mean = values / count
        return mean, (squares / count - mean.square()).clamp_min(0)
