"""Closed-form layer solvers on a quadratic objective: which channels stay, and the weights.

The damping pulls towards the teacher's weight, not towards zero: what the few images do not
determine stays what the teacher had.

    W = argmin N L(W) + delta || W - W_T ||_F^2,   delta = damping * mean diag(H) / N

The damping counts images: the pull weighs as much as the curvature of so many of them does, be
the images of the layer few or many.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fsc.arguments import check_fields
from fsc.solvers.elimination import eliminate_channels
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import Quadratic
from fsc.wording import shown

Selection = Literal["obs", "norm"]


@dataclass(frozen=True)
class ClosedForm:
    """The closed form on moments, for objectives before the activation.

    Args:
        selection: "obs" chooses by what a removal costs, "norm" by the teacher's largest norms.
        damping: pull towards the teacher's weight, in images.

    Raises:
        ValueError: selection is unknown, or damping is not positive and finite.
    """

    selection: Selection = "obs"
    damping: float = 15.0

    def __post_init__(self) -> None:
        """Refuses unknown choices before any work is done."""
        check_fields(self)
        check_selection(self.selection)
        check_damping(self.damping)


def check_selection(selection: str) -> None:
    """Refuses what is no selection."""
    if selection not in ("obs", "norm"):
        raise ValueError(f"selection must be 'obs' or 'norm', got {shown(selection)}")


def check_damping(damping: float) -> None:
    """Refuses a pull that leaves the system singular."""
    if not 0 < damping < math.inf:
        raise ValueError(f"damping must be finite and above 0, got {damping}")


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
        damping: strength of the pull, in images; finite and above 0.

    Returns:
        The weight [C_out, dim], zero outside `rows`.

    Raises:
        ValueError: damping is not positive and finite.
    """
    delta = damping_strength(quadratic, damping)
    weight = torch.zeros_like(weight_teacher)
    weight[:, rows] = quadratic.minimum_near(weight_teacher, rows, delta)
    return weight


def damping_strength(quadratic: Quadratic, damping: float) -> float:
    """Delta, the curvature that a pull of so many images adds.

    Raises:
        ValueError: damping is not positive and finite.
    """
    check_damping(damping)
    # Inputs that are zero everywhere leave no curvature to measure by; any pull will do then.
    return damping / max(quadratic.num_images, 1) * (quadratic.mean_curvature() or 1.0)


def choose_channels(
    quadratic: Quadratic,
    weight_teacher: Tensor,
    patch: Patch,
    count: int,
    selection: Selection,
    damping: float,
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
    everything = torch.arange(patch.dim, device=weight_teacher.device)
    groups = everything[: patch.in_channels * patch.group_size].view(patch.in_channels, -1)
    check_selection(selection)
    if selection == "norm":
        norms = weight_teacher[:, groups].square().sum((0, 2))
        return norms.argsort(descending=True, stable=True)[:count].sort().values
    if count == patch.in_channels:
        return everything[:count]
    delta = damping_strength(quadratic, damping)
    weight, inverse = quadratic.minimum_and_inverse(weight_teacher, delta)
    return torch.tensor(eliminate_channels(weight, inverse, groups, count), device=groups.device)


def rows_of(channels: Tensor, patch: Patch) -> Tensor:
    """Row numbers of the im2col that belong to the given input channels, and the bias row."""
    within = torch.arange(patch.group_size, device=channels.device)
    rows = (channels[:, None] * patch.group_size + within).flatten()
    return torch.cat([rows, rows.new_tensor([patch.dim - 1])]) if patch.bias else rows
