"""One layer of cross distillation as a problem: take up its inputs, then solve for its weight."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from fsc.moments import ACCUMULATOR, layer_statistics
from fsc.objectives import Objective
from fsc.patch import Patch
from fsc.solvers.closed_form import Selection, choose_channels, rows_of, solve_on_rows
from fsc.solvers.proximal import HardSchedule, adam_topk, layer_loss

Activation = Literal["none", "relu"]
Axis = Literal["input_channels", "output_filters"]


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of `CrossDistillation` that a layer's solution depends on."""

    objective: Objective
    activation: Activation
    axis: Axis
    selection: Selection
    damping: float
    schedule: HardSchedule


@dataclass(frozen=True)
class Plan:
    """What a layer may keep.

    Args:
        channels: the input channels that carry anything, in increasing order.
        num_channels: how many of them stay when this layer chooses among them, else None.
        num_filters: how many output filters stay when this layer chooses them, else None.
    """

    channels: Tensor
    num_channels: int | None = None
    num_filters: int | None = None


@dataclass(frozen=True)
class Solution:
    """A solved layer.

    Args:
        weight: of the shape of the layer's weight, zero where channels or filters went.
        bias: [C_out], or None.
        channels: the input channels in use.
        filters: the output filters in use.
        error_before: the objective at the teacher's weight on the kept channels and filters.
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


class LayerProblem(Protocol):
    """Takes up a layer's inputs batch by batch, then solves."""

    def accumulate(self, input_teacher: Tensor, input_student: Tensor) -> None:
        """Takes up the inputs of one batch."""

    def solve(self, plan: Plan) -> Solution:
        """The layer's new weight under a plan."""


def _all_filters(layer: nn.Conv2d) -> Tensor:
    return torch.arange(layer.out_channels)


class MomentsProblem:
    """Closed form on moments: the objective before the activation.

    Args:
        layer: the teacher's layer.
        settings: hyper-parameters.
        num_columns: pixels of the layer's output over all images.
    """

    def __init__(self, layer: nn.Conv2d, settings: Settings, num_columns: int) -> None:
        """Chooses between Gram matrices and columns, whichever is cheaper."""
        self.layer = layer
        self.settings = settings
        self.patch = Patch.of(layer)
        terms = len(settings.objective.terms)
        self.statistics = layer_statistics(self.patch, num_columns, terms)

    def accumulate(self, input_teacher: Tensor, input_student: Tensor) -> None:
        """Takes up the inputs of one batch, [N, C_in, H, W] each."""
        self.statistics.accumulate(input_teacher, input_student)

    def solve(self, plan: Plan) -> Solution:
        """Chooses channels or filters by what their removal costs, then solves on the rest."""
        settings, patch = self.settings, self.patch
        teacher = self._flat(self.layer)  # [C_out, dim]
        quadratic = self.statistics.quadratic(settings.objective, teacher)
        channels = plan.channels
        if plan.num_channels is not None:
            channels = choose_channels(
                quadratic, teacher, patch, plan.num_channels, settings.selection, settings.damping
            )
        rows = rows_of(channels, patch)
        weight = solve_on_rows(quadratic, teacher, rows, settings.damping)
        filters = _all_filters(self.layer)
        if plan.num_filters is not None:
            # Filters are independent problems: what removing one costs is what it explained.
            rises = quadratic.row_losses(torch.zeros_like(weight)) - quadratic.row_losses(weight)
            order = rises.argsort(descending=True, stable=True)
            filters = order[: plan.num_filters].sort().values
        before, solved = torch.zeros_like(weight), torch.zeros_like(weight)
        solved[filters] = weight[filters]
        before[filters[:, None], rows] = teacher[filters[:, None], rows]
        errors = [quadratic.loss(w) for w in (before, solved, torch.zeros_like(weight))]
        return Solution(*self._unflat(solved), channels, filters, *errors)

    def _flat(self, layer: nn.Conv2d) -> Tensor:
        """Weight and bias as one matrix [C_out, dim] in float64."""
        parts = [layer.weight.detach().flatten(1)]
        if layer.bias is not None:
            parts.append(layer.bias.detach()[:, None])
        return torch.cat(parts, 1).to(ACCUMULATOR)

    def _unflat(self, flat: Tensor) -> tuple[Tensor, Tensor | None]:
        flat = flat.to(self.layer.weight.dtype)
        bias = flat[:, -1].clone() if self.patch.bias else None
        return flat[:, : flat.shape[1] - int(self.patch.bias)].reshape(
            self.layer.weight.shape
        ), bias


class StepsProblem:
    """Adam steps with a hard projection: the objective after the activation.

    Args:
        layer: the teacher's layer.
        settings: hyper-parameters.
        on_step: called with the number of every step done.
    """

    def __init__(
        self, layer: nn.Conv2d, settings: Settings, on_step: Callable[[int], None] | None
    ) -> None:
        """Starts without inputs."""
        self.layer = layer
        self.settings = settings
        self.on_step = on_step
        self.inputs: list[tuple[Tensor, Tensor]] = []

    def accumulate(self, input_teacher: Tensor, input_student: Tensor) -> None:
        """Keeps the inputs of one batch, [N, C_in, H, W] each."""
        self.inputs.append((input_teacher, input_student))

    def solve(self, plan: Plan) -> Solution:
        """Runs the steps; the weight starts at the teacher's, the bias stays the teacher's."""
        layer = self.layer
        inputs = (torch.cat([t for t, _ in self.inputs]), torch.cat([s for _, s in self.inputs]))
        dead = torch.ones(layer.in_channels, dtype=torch.bool)
        dead[plan.channels] = False
        start = layer.weight.detach().clone()
        start[:, dead] = 0
        bias = None if layer.bias is None else layer.bias.detach().clone()

        def loss(weight: Tensor, student_bias: Tensor | None = bias) -> Tensor:
            return layer_loss(weight, inputs, layer, student_bias, self.settings.objective, "relu")

        def gradient(weight: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = weight.requires_grad_()
                # The released code's loss is a mean over the outputs, which Adam's epsilon sees.
                (grad,) = torch.autograd.grad(loss(leaf) / layer.out_channels, leaf)
            grad[:, dead] = 0
            return grad

        channels, filters, weight = self._project(plan, start, gradient)
        before = torch.zeros_like(start)
        before[filters[:, None], channels] = start[filters[:, None], channels]
        if bias is not None and plan.num_filters is not None:
            gone = torch.ones(layer.out_channels, dtype=torch.bool)
            gone[filters] = False
            bias[gone] = 0
        zero_bias = None if bias is None else torch.zeros_like(bias)
        errors = [loss(before), loss(weight), loss(torch.zeros_like(weight), zero_bias)]
        return Solution(weight, bias, channels, filters, *(float(e) for e in errors))

    def _project(
        self, plan: Plan, start: Tensor, gradient: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the steps under the plan: kept channels, kept filters, weight."""
        filters = _all_filters(self.layer)
        schedule, on_step = self.settings.schedule, self.on_step
        if plan.num_filters is not None:
            weight, filters = adam_topk(start, gradient, plan.num_filters, 0, schedule, on_step)
            return plan.channels, filters, weight
        count = plan.num_channels or len(plan.channels)
        weight, channels = adam_topk(start, gradient, count, 1, schedule, on_step)
        return channels, filters, weight
