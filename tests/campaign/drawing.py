"""Tensors and settings at random: sizes, values and layouts, the rare ones often."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch
from torch import Tensor

from fsc_ext.testing import EMULATED

HALF = (torch.float16, torch.bfloat16)
_EXTREMES = (math.inf, -math.inf, math.nan, 1e38, -1e38, 1e-45, 1e-38, 0.0, -0.0)


class Draw(random.Random):
    """A `random.Random` that draws tensors, too; all comes from its seed alone."""

    def __init__(self, seed: int) -> None:
        """Starts both generators."""
        super().__init__(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self.extreme = self.random() < 0.1  # whether values of this call may be inf, NaN, 1e-45

    def chance(self, share: float) -> bool:
        """True in this share of all draws."""
        return self.random() < share

    def size(self, most: int = 7) -> int:
        """Of a dimension: 0 seldom, 1 often."""
        return self.choices([0, 1, self.randint(2, most)], [3, 17, 80])[0]

    def dtype(self) -> torch.dtype:
        """One that the kernels take."""
        if EMULATED and self.chance(0.2):
            return self.choice(HALF)
        return self.choices([torch.float32, torch.float64], [65, 35])[0]

    def values(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """Normal ones, or ties, zeros, other units, and extremes where the call has some."""
        values = torch.randn(tuple(shape), generator=self._generator, dtype=torch.float64)
        kind = self.choices(["normal", "ties", "units", "zeros"], [70, 15, 10, 5])[0]
        if kind == "ties":
            values = values.mul(2).round()
        elif kind == "units":
            most = 4 if dtype == torch.float16 else 6  # infinity is an extreme
            values = values * 10.0 ** self.randint(-most, most)
        elif kind == "zeros":
            values = values * 0
        if self.extreme and self.chance(0.6):
            for _ in range(min(3, values.numel())):
                values.view(-1)[self.randrange(values.numel())] = self.choice(_EXTREMES)
        return values.to(dtype)

    def tensor(self, *shape: int, dtype: torch.dtype, dense: bool = False) -> Tensor:
        """Values in some layout; `dense` for what is written: memory for each of its elements."""
        return self.laid_out(self.values(shape, dtype), dense=dense)

    def positive(self, *shape: int, dtype: torch.dtype, dense: bool = False) -> Tensor:
        """As `tensor`, without a negative value."""
        return self.laid_out(self.values(shape, dtype).abs(), dense=dense)

    def mask(self, *shape: int, share: float = 0.7) -> Tensor:
        """True in a share of its elements."""
        found = torch.rand(shape, generator=self._generator) < share
        return self.laid_out(found, dense=True)

    def spd(self, *shape: int) -> Tensor:
        """Symmetric positive definite matrices [..., D, D], float64."""
        wide = torch.randn(*shape, shape[-1] + 3, generator=self._generator, dtype=torch.float64)
        return wide @ wide.mT / (shape[-1] + 3) + 0.1 * torch.eye(shape[-1], dtype=torch.float64)

    def laid_out(self, values: Tensor, dense: bool = False) -> Tensor:
        """The same values in another layout, but for those that memory shared makes equal."""
        layouts = [_contiguous, _strided, _offset, _transposed, _channels_last]
        weights = [40, 15, 10, 15, 15]
        if not dense:
            layouts, weights = [*layouts, _expanded, _overlapping], [*weights, 7, 3]
        return self.choices(layouts, weights)[0](self, values)


def _contiguous(draw: Draw, values: Tensor) -> Tensor:
    return values.contiguous()


def _strided(draw: Draw, values: Tensor) -> Tensor:
    if values.dim() == 0:
        return values
    wide = torch.ones(*values.shape[:-1], 2 * values.shape[-1] + 1, dtype=values.dtype)
    return wide[..., 1::2].copy_(values)


def _offset(draw: Draw, values: Tensor) -> Tensor:
    flat = torch.ones(values.numel() + 5, dtype=values.dtype)
    return flat[3 : 3 + values.numel()].view(values.shape).copy_(values)


def _transposed(draw: Draw, values: Tensor) -> Tensor:
    order = draw.sample(range(values.dim()), values.dim())
    back = [order.index(d) for d in range(values.dim())]
    return values.permute(order).contiguous().permute(back)


def _channels_last(draw: Draw, values: Tensor) -> Tensor:
    if values.dim() != 4:
        return values
    return values.contiguous(memory_format=torch.channels_last)


def _expanded(draw: Draw, values: Tensor) -> Tensor:
    """One slice of a dimension for all of them, by a stride of 0."""
    if values.dim() == 0 or 0 in values.shape:
        return values
    dim = draw.randrange(values.dim())
    return values.narrow(dim, 0, 1).clone().expand(values.shape)


def _overlapping(draw: Draw, values: Tensor) -> Tensor:
    """Rows that begin one element after each other, as sliding windows do."""
    if values.dim() < 2 or 0 in values.shape:
        return values
    strides = list(values.contiguous().stride())
    strides[0] = 1
    reach = sum((size - 1) * step for size, step in zip(values.shape, strides, strict=True))
    return values.flatten()[: reach + 1].clone().as_strided(values.shape, strides)
