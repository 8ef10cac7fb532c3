"""Closed-form layer solvers on a quadratic objective: which channels stay, and the weights.

The damping pulls towards the teacher's weight, not towards zero: what the few images do not
determine stays what the teacher had.

    W = argmin N L(W) + delta || W - W_T ||_F^2,   delta = damping * mean diag(H)
"""

import math
from typing import Literal

import torch
from torch import Tensor

from fsc.patch import Patch
from fsc.solvers.elimination import eliminate_channels
from fsc.solvers.quadratic import Quadratic

Selection = Literal["obs", "norm"]


def solve_on_rows(
    quadratic: Quadratic,
    weight_teacher: Tensor,
    rows: Tensor,
    damping: float,
) -> Tensor:
    """The damped minimiser among the weights that are zero outside `rows`.

    Args:
        quadratic: the layer objective.
        weight_teacher: where the damping pulls to, [C_out, dim] float64.
        rows: row numbers of the im2col that may be used, [rows].
        damping: strength of the pull in units of the mean curvature; finite and above 0.

    Returns:
        The weight [C_out, dim], zero outside `rows`.

    Raises:
        ValueError: damping is not positive and finite.
    """
    delta = _delta(quadratic, damping)
    weight = torch.zeros_like(weight_teacher)
    weight[:, rows] = quadratic.minimum_near(weight_teacher, rows, delta)
    return weight


def _delta(quadratic: Quadratic, damping: float) -> float:
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be finite and above 0, got {damping}")
    # Inputs that are zero everywhere leave no curvature to measure by; any pull will do then.
    return damping * (quadratic.mean_curvature() or 1.0)


def choose_channels(
    quadratic: Quadratic,
    weight_teacher: Tensor,
    patch: Patch,
    count: int,
    selection: Selection = "obs",
    damping: float = 0.1,
) -> Tensor:
    """The input channels that stay, in increasing order, [count].

    Args:
        quadratic: the layer objective.
        weight_teacher: [C_out, dim] float64, bias as last column where `patch.bias`.
        patch: the geometry of the layer.
        count: how many input channels stay, in [1, C_in].
        selection: "obs" removes the channel whose removal costs least, one after another;
            "norm" keeps the channels of largest L2 norm in the teacher's weight.
        damping: as in `solve_on_rows`.

    Raises:
        ValueError: `count` is out of range or `selection` is unknown.
    """
    if not 1 <= count <= patch.in_channels:
        raise ValueError(f"count must be in [1, {patch.in_channels}], got {count}")
    groups = torch.arange(patch.in_channels * patch.group_size).view(patch.in_channels, -1)
    if selection == "norm":
        norms = weight_teacher[:, groups].square().sum((0, 2))
        return norms.argsort(descending=True, stable=True)[:count].sort().values
    if selection != "obs":
        raise ValueError(f"selection must be 'obs' or 'norm', got {selection!r}")
    if count == patch.in_channels:
        return torch.arange(count)
    weight = solve_on_rows(quadratic, weight_teacher, torch.arange(patch.dim), damping)
    inverse = quadratic.damped_inverse(_delta(quadratic, damping))
    return torch.tensor(eliminate_channels(weight, inverse, groups, count))


def rows_of(channels: Tensor, patch: Patch) -> Tensor:
    """Row numbers of the im2col that belong to the given input channels, and the bias row."""
    rows = (channels[:, None] * patch.group_size + torch.arange(patch.group_size)).flatten()
    return torch.cat([rows, torch.tensor([patch.dim - 1])]) if patch.bias else rows
