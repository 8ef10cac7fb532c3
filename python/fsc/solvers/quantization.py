"""A layer's weight on a few values for each output channel.

In closed form one column of the weight is rounded after the other, and what its rounding costs is
made up by those that are still free: optimal brain surgery (Hassibi and Stork, 1993) with a rounded
weight in place of a removed one (Frantar and Alistarh, 2022). The iterations are those that Cross
Distillation names: straight-through estimation and ProxQuant. The values of a channel are those of
`fsc_ext.quantize_weight`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

import fsc_ext
from fsc.solvers.closed_form import Selection, damping_strength, solve_on_rows
from fsc.solvers.proximal import Proximal
from fsc.solvers.quadratic import Quadratic

# Columns that are rounded before the rest of the weight hears of it: a matrix product does that.
_BLOCK = 64
# The weight of ProxQuant's penalty at the end of the ramp; a step of rate r pulls by r times it.
_PENALTY = 1.0


def quantize_closed_form(
    quadratic: Quadratic,
    weight_teacher: Tensor,
    num_quantized: int,
    bits: int,
    selection: Selection,
    damping: float,
) -> Tensor:
    """Rounds a layer's weight column by column.

    Args:
        quadratic: the layer objective.
        weight_teacher: where the damping pulls to, [C_out, dim] float64.
        num_quantized: the first so many columns are quantized; a bias after them is not.
        bits: 2^bits values for each output channel.
        selection: "obs" passes the rounding error of a column on; "norm" rounds the teacher.
        damping: strength of the pull, in images.

    Returns:
        The weight, [C_out, dim].
    """
    if selection == "norm":
        rounded = fsc_ext.quantize_weight(weight_teacher[:, :num_quantized], bits)
        return torch.cat([rounded, weight_teacher[:, num_quantized:]], 1)
    everything = torch.arange(weight_teacher.shape[1], device=weight_teacher.device)
    weight = solve_on_rows(quadratic, weight_teacher, everything, damping)
    hessian = quadratic.hessian_on(everything)
    hessian.diagonal().add_(damping_strength(quadratic, damping))
    return pass_errors_on(weight, hessian, num_quantized, bits)


def pass_errors_on(weight: Tensor, damped: Tensor, num_quantized: int, bits: int) -> Tensor:
    """Rounds a minimiser column by column; the columns still free make up for each.

    Args:
        weight: [..., rows, dim]; what stands before are problems of their own.
        damped: their damped Hessians, [..., dim, dim].
        num_quantized: the first so many columns are quantized.
        bits: 2^bits values for each row.

    Returns:
        The weight, [..., rows, dim].
    """
    dim = weight.shape[-1]
    # Columns of large inputs first: many are left to make up for them.
    diagonal = damped.diagonal(dim1=-2, dim2=-1)[..., :num_quantized]
    first = diagonal.argsort(descending=True, stable=True)
    rest = torch.arange(num_quantized, dim, device=weight.device).expand(*first.shape[:-1], -1)
    order = torch.cat([first, rest], -1)  # [..., dim]
    by_columns = order[..., None, :].expand_as(weight)
    sorted_rows = damped.gather(-2, order[..., :, None].expand_as(damped))
    ordered = sorted_rows.gather(-1, order[..., None, :].expand_as(damped))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(ordered))
    factor = torch.linalg.cholesky(inverse, upper=True)  # [..., dim, dim]
    grid = _Grid(weight[..., :num_quantized], bits)
    rounded = _round_columns(weight.gather(-1, by_columns), factor, grid, num_quantized)
    return torch.empty_like(rounded).scatter_(-1, by_columns, rounded)


class _Grid:
    """The values of every output channel: low + step * (0 ... 2^bits - 1), [..., rows, 1] each."""

    def __init__(self, weight: Tensor, bits: int) -> None:
        ends = fsc_ext.quantize_weight(weight.flatten(0, -2), bits).view(weight.shape)
        self.low, self.high = ends.amin(-1, keepdim=True), ends.amax(-1, keepdim=True)
        self.step = (self.high - self.low) / (2**bits - 1)

    def nearest(self, weight: Tensor) -> Tensor:
        """The nearest values to a weight, [..., rows, any]."""
        steps = (torch.clamp(weight, self.low, self.high) - self.low) / self.step
        return self.low + self.step * steps.round().nan_to_num()


def _round_columns(weight: Tensor, factor: Tensor, grid: _Grid, count: int) -> Tensor:
    """Rounds the first `count` columns of a weight; the upper factor of H^-1 says who makes up."""
    weight = weight.clone()
    for begin in range(0, count, _BLOCK):
        end = min(begin + _BLOCK, count)
        errors = weight.new_zeros(*weight.shape[:-1], end - begin)
        for i in range(begin, end):
            rounded = grid.nearest(weight[..., i : i + 1])
            pivot = factor[..., i, i, None, None]
            error = (weight[..., i : i + 1] - rounded) / pivot
            weight[..., i + 1 : end] -= error * factor[..., i, None, i + 1 : end]
            weight[..., i : i + 1] = rounded
            errors[..., i - begin : i - begin + 1] = error
        weight[..., end:] -= errors @ factor[..., begin:end, end:]
    return weight


def quantize_by_steps(
    solver: Proximal,
    quadratic: Quadratic,
    weight_teacher: Tensor,
    num_quantized: int,
    bits: int,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Steps of an optimiser with quantized weights.

    Args:
        solver: the schedule. Projection "hard" is the straight-through estimator: the gradient is
            taken at the quantized weight. "soft" is ProxQuant: each step is followed by a pull
            to the nearest value, as that of `fsc_ext.prox_quantize`, whose strength rises
            linearly over the ramp. The values of a channel are those of the teacher's weight
            throughout: taken anew after every step they would shrink with the weight.
        quadratic: the layer objective.
        weight_teacher: where the steps start, [C_out, dim] float64.
        num_quantized: the first so many columns are quantized; the others stay.
        bits: 2^bits values for each output channel.
        on_step: called with the number of steps done.

    Returns:
        The weight, [C_out, dim].
    """
    weight = weight_teacher.clone()
    free = weight[:, :num_quantized].clone()
    first, second = torch.zeros_like(free), torch.zeros_like(free)
    grid = _Grid(free, bits)
    straight_through = solver.projection == "hard"
    length = max(1.0, solver.ramp * solver.steps)
    for step, rate in enumerate(solver.learning_rates().tolist(), start=1):
        weight[:, :num_quantized] = grid.nearest(free) if straight_through else free
        gradient = quadratic.gradient(weight)[:, :num_quantized] / len(weight)
        if solver.optimizer == "adam":
            fsc_ext.adam_prox_(free, gradient, first, second, step, lr=rate)
        else:
            buffer = first if solver.momentum else None
            fsc_ext.sgd_prox_(free, gradient, buffer, lr=rate, momentum=solver.momentum)
        if not straight_through:
            strength = rate * _PENALTY * min(1.0, step / length)
            free = (free + strength * grid.nearest(free)) / (1 + strength)
        if on_step is not None:
            on_step(step)
    weight[:, :num_quantized] = grid.nearest(free)
    return weight
