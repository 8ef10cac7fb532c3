"""One layer of cross distillation as a problem: take up its inputs, then solve for its weight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from fsc.layers.moments import ACCUMULATOR
from fsc.layers.objectives import Objective
from fsc.solvers.accelerated import Accelerated
from fsc.solvers.closed_form import ClosedForm, Selection
from fsc.solvers.mixing import Mixing
from fsc.solvers.proximal import Proximal
from fsc.solvers.reconstruction import Reconstruction

Activation = Literal["none", "relu"]
Axis = Literal["input_channels", "output_filters"]
Solver = ClosedForm | Proximal | Accelerated
# With those of the baselines, which solve for channels alone.
AnySolver = Solver | Reconstruction | Mixing
# What the outputs of both layers are added to before the ReLU, teacher's first.
Shortcuts = tuple[Tensor, Tensor]


def selection_of(solver: AnySolver) -> Selection:
    """How channels are chosen for a solver that does not choose them while it solves."""
    return solver.selection if isinstance(solver, ClosedForm | Accelerated) else "norm"


@dataclass(frozen=True)
class Plan:
    """What a layer may keep.

    Args:
        channels: the input channels that carry anything, in increasing order. Indices are on the
            device of the layer, here and in `Solution`.
        num_channels: how many of them stay when this layer chooses among them, else None.
        num_filters: how many output filters stay when this layer chooses them, else None.
        num_weights: how many single weights stay when this layer chooses them, else None.
        weights: the single weights that stay, numbered as in the flattened weight, where they are
            given, else None.
        bits: of a weight, where the layer is quantized, else None.
    """

    channels: Tensor
    num_channels: int | None = None
    num_filters: int | None = None
    num_weights: int | None = None
    weights: Tensor | None = None
    bits: int | None = None


@dataclass(frozen=True)
class Solution:
    """A solved layer.

    Args:
        weight: of the shape of the layer's weight, zero where something went.
        bias: [C_out], or None.
        channels: the input channels in use.
        filters: the output filters in use.
        error_before: the objective at the teacher's weight where the solved one is not zero.
        error: the objective at `weight`.
        error_of_zero: the objective at weight zero, the scale of the two.
    """

    weight: Tensor
    bias: Tensor | None
    channels: Tensor
    filters: Tensor
    error_before: float
    error: float
    error_of_zero: float

    def to(self, device: torch.device | str) -> Solution:
        """The same on another device."""
        bias = None if self.bias is None else self.bias.to(device)
        parts = (each.to(device) for each in (self.weight, self.channels, self.filters))
        weight, channels, filters = parts
        return replace(self, weight=weight, bias=bias, channels=channels, filters=filters)


class LayerProblem(Protocol):
    """Takes up a layer's inputs batch by batch, then solves."""

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up the inputs of one batch, and the shortcuts where the pose has them."""

    def join_ranks(self) -> None:
        """Takes up what the other ranks have: sums are added up, all else stands in their order."""

    def solve(self, plan: Plan) -> Solution:
        """The layer's new weight under a plan."""


@dataclass(frozen=True)
class Pose:
    """What every problem is posed from.

    Args:
        layer: the teacher's layer.
        objective: which inputs meet.
        activation: whether a ReLU stands between the layer and the comparison.
        num_columns: pixels of the layer's output over all images.
        has_shortcuts: whether both networks add something to its output before it is compared.
        noise: deviation of the noise that every step draws anew for the student's inputs, as a
            share of the largest feature of each image; 0: none.
        seed: of that noise.
    """

    layer: nn.Conv2d
    objective: Objective
    activation: Activation
    num_columns: int
    has_shortcuts: bool = False
    noise: float = 0.0
    seed: int = 0


def all_channels(layer: nn.Conv2d) -> Tensor:
    """The numbers of all input channels."""
    return torch.arange(layer.in_channels, device=layer.weight.device)


def all_filters(layer: nn.Conv2d) -> Tensor:
    """The numbers of all output filters."""
    return torch.arange(layer.out_channels, device=layer.weight.device)


def joined(weight: Tensor, bias: Tensor | None) -> Tensor:
    """A weight and a bias as one matrix [C_out, dim] in float64."""
    parts = [weight.detach().flatten(1)]
    if bias is not None:
        parts.append(bias.detach()[:, None])
    return torch.cat(parts, 1).to(ACCUMULATOR)


def to_matrix(layer: nn.Conv2d) -> Tensor:
    """Weight and bias of a layer as one matrix [C_out, dim] in float64."""
    return joined(layer.weight, layer.bias)


def from_matrix(matrix: Tensor, layer: nn.Conv2d) -> tuple[Tensor, Tensor | None]:
    """Weight and bias in the shapes and dtype of a layer from one matrix [C_out, dim]."""
    matrix = matrix.to(layer.weight.dtype)
    size = layer.weight[0].numel()
    bias = None if layer.bias is None else matrix[:, size].clone()
    return matrix[:, :size].reshape(layer.weight.shape).clone(), bias
