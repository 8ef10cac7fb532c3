"""Least squares on the channels that stay, as the layer-wise baselines of 2017 have it.

Of every weight (He et al. 2017), which is the closed form, or of one scale a channel (Luo et al.
2017, Eq. 7):

    s = argmin N^-1 || Y - sum over kept c of s_c Z_c ||_F^2 + delta || s - 1 ||^2
      = (M_SS + delta I)^-1 (v_S + delta 1),        delta = damping * mean diag(M) / N
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fsc.arguments import check_fields
from fsc.solvers.closed_form import check_damping
from fsc.solvers.contributions import Contributions
from fsc.solvers.greedy import greedy_channels
from fsc.solvers.lasso import lasso_channels
from fsc.wording import shown

Choice = Literal["greedy", "lasso"]
Unknowns = Literal["scales", "weights"]


@dataclass(frozen=True)
class Reconstruction:
    """Channels chosen by what they add to the output, then least squares.

    Args:
        choice: "greedy", see `fsc.solvers.greedy`, or "lasso", see `fsc.solvers.lasso`.
        unknowns: one of "scales", one a channel, and "weights", all of them and the bias.
        damping: pull towards the teacher's weight, or towards scale 1, in images.

    Raises:
        ValueError: unknowns are unknown, or damping is not positive and finite.
    """

    choice: Choice
    unknowns: Unknowns
    damping: float

    def __post_init__(self) -> None:
        """Refuses what cannot be solved."""
        check_fields(self)
        if self.unknowns not in ("scales", "weights"):
            raise ValueError(
                f"reconstruction must be 'scales' or 'weights', got {shown(self.unknowns)}"
            )
        check_damping(self.damping)


def chosen_channels(found: Contributions, count: int, choice: Choice) -> Tensor:
    """The input channels that stay, in increasing order, [count]."""
    if choice == "greedy":
        return greedy_channels(found.gram, count)
    return lasso_channels(found.gram, found.target, count)


def channel_scales(found: Contributions, channels: Tensor, damping: float) -> Tensor:
    """The scale of every kept channel, [kept].

    Args:
        found: the contributions of all channels.
        channels: those that stay, [kept].
        damping: in images, above 0.
    """
    # Contributions that are zero everywhere leave no curvature to measure by.
    curvature = float(found.gram.diagonal().mean()) or 1.0
    delta = damping / max(found.num_images, 1) * curvature
    damped = found.gram[channels][:, channels]
    damped.diagonal().add_(delta)
    right = found.target[channels] + delta
    return torch.cholesky_solve(right[:, None], torch.linalg.cholesky(damped))[:, 0]
