"""A convolution, its residual and its gradients in float64, with how far rounding leads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from bounded import epsilon
from drawing import Draw
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input, conv2d_weight

Bounded = tuple[Tensor, Tensor]

WINOGRAD = 40  # roundings of an output that go with Winograd's transforms, of all its tile's inputs
LEAST = 3e-6  # of the norms: gradients that are no more than the rounding of those transforms
LEAST_RESIDUAL = 2e-5  # of the outputs' norm: residuals that are


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width."""
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves, and what its kernel looks like."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int = 1

    @property
    def settings(self) -> dict[str, tuple[int, int]]:
        """As the operators are told."""
        return {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}

    @property
    def is_winograd(self) -> bool:
        """Whether Winograd's transforms may be used."""
        moves = self.stride == self.dilation == (1, 1) and self.groups == 1
        return self.kernel == (3, 3) and moves

    def least(self) -> list[int]:
        """The smallest image that gives an output."""
        axes = zip(self.kernel, self.padding, self.dilation, strict=True)
        return [max(1, dilation * (size - 1) + 1 - 2 * pad) for size, pad, dilation in axes]

    def outputs(self, image: list[int]) -> list[int]:
        """Height and width of the output."""
        axes = zip(image, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        return [(s + 2 * p - d * (k - 1) - 1) // step + 1 for s, k, step, p, d in axes]


def geometry_of(draw: Draw) -> Geometry:
    """Mostly small kernels; 3x3 with a stride of 1 as often as others."""
    if draw.chance(0.4):
        return Geometry((3, 3), (1, 1), (draw.randint(0, 2), draw.randint(0, 2)), (1, 1))
    pairs = [(draw.randint(1, 3), draw.randint(1, 3)) for _ in range(3)]
    return Geometry(pairs[0], pairs[1], (draw.randint(0, 2), draw.randint(0, 2)), pairs[2])


def geometry_of_settings(settings: dict, weight: Tensor) -> Geometry:
    """Of a call."""
    found = [pair(settings[name]) for name in ("stride", "padding", "dilation")]
    kernel = tuple(weight.shape[2:])
    return Geometry(kernel, *(tuple(p) for p in found), settings.get("groups", 1))


def convolved(x: Tensor, weight: Tensor, bias: Tensor | None, moves: Geometry) -> Bounded:
    """The output, with the error of sums in the dtype of `x`'s values, which are wide already."""
    settings = {**moves.settings, "groups": moves.groups}
    x, weight = x.double(), weight.double()
    bias = None if bias is None else bias.double()
    value = functional.conv2d(x, weight, bias, **settings)
    size = functional.conv2d(
        x.abs(), weight.abs(), None if bias is None else bias.abs(), **settings
    )
    return value, (weight[0].numel() + 6 if len(weight) else 6) * size


def tile_sizes(x: Tensor, weight: Tensor, moves: Geometry) -> Tensor | float:
    """What the rounding of a Winograd transform is a multiple of, for every output."""
    if not moves.is_winograd or x.numel() == 0:
        return 0.0
    around = functional.max_pool2d(x.double().abs(), 7, 1, 3)
    return WINOGRAD * functional.conv2d(around, weight.double().abs(), padding=moves.padding)


def residual(output: Bounded, target: Bounded, relu: bool) -> tuple[Bounded, Bounded]:
    """act(S) - T, and act'(S) times that, where the slope is uncertain near zero."""
    (s, s_error), (t, t_error) = output, target
    difference = (s.relu() if relu else s) - t
    error = s_error + t_error
    if not relu:
        return (difference, error), (difference, error)
    near = (s.abs() <= s_error) | s.isnan()
    slope_error = torch.where(near, difference.abs() + error, torch.where(s > 0, error, 0))
    return (difference, error), (torch.where(s > 0, difference, 0), slope_error)


def squared_sum(difference: Bounded) -> Bounded:
    """Of all elements, in float64 but for the differences themselves."""
    value, error = difference
    spread = (2 * value.abs() * error + error.square()).sum()
    return value.square().sum(), spread + 1e-13 * value.square().sum()


def weight_gradient(
    x: Tensor, residuals: Bounded, shape: torch.Size, moves: Geometry, dtype: torch.dtype
) -> Bounded:
    """The product of inputs and residuals that is the gradient of the weight."""
    value, error = residuals
    places = (moves.stride, moves.padding, moves.dilation, moves.groups)
    wide, count = x.double(), value.numel() / max(1, shape[0]) + 6
    found = conv2d_weight(wide, shape, value, *places)
    slack = conv2d_weight(wide.abs(), shape, error, *places)
    size = conv2d_weight(wide.abs(), shape, value.abs(), *places)
    slack = slack + epsilon(dtype) * count * size
    if moves.is_winograd and dtype != torch.float64:
        norms = wide.square().sum((0, 2, 3)).sqrt()[None, :, None, None]
        filters = (value.abs() + error).square().sum((0, 2, 3)).sqrt()[:, None, None, None]
        slack = slack + LEAST * norms * filters
    return found, slack


def input_gradient(
    weight: Tensor, residuals: Bounded, shape: torch.Size, moves: Geometry, dtype: torch.dtype
) -> Bounded:
    """The product of weights and residuals that is the gradient of the input."""
    value, error = residuals
    places = (moves.stride, moves.padding, moves.dilation, moves.groups)
    wide, count = weight.double(), weight.numel() / max(1, weight.shape[1]) + 6
    found = conv2d_input(shape, wide, value, *places)
    slack = conv2d_input(shape, wide.abs(), error, *places)
    size = conv2d_input(shape, wide.abs(), value.abs(), *places)
    return found, slack + epsilon(dtype) * count * size
