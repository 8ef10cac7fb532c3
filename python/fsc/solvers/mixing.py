"""Grail's ridge regression: all channels from those that stay (CPAL 2026).

    B = argmin || X - B X_P ||_F^2 + lambda || B ||_F^2 = G_:P (G_PP + lambda I)^-1,
    G = X X^T,        lambda = ridge * mean diag(G_PP)

with X [C, pixels] what a layer reads and P the channels of it that stay.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fsc.arguments import check_fields


@dataclass(frozen=True)
class Mixing:
    """Weights that take what is gone from what stays.

    Args:
        ridge: strength of the ridge, in mean squares of the kept channels.

    Raises:
        ValueError: ridge is not positive and finite.
    """

    ridge: float

    def __post_init__(self) -> None:
        """Refuses a ridge that leaves the system singular."""
        check_fields(self)
        if not 0 < self.ridge < math.inf:
            raise ValueError(f"ridge must be finite and above 0, got {self.ridge}")


def channel_mixing(gram: Tensor, kept: Tensor, ridge: float) -> Tensor:
    """B, [C, kept].

    Args:
        gram: G, [C, C] float64.
        kept: the channels that stay, [kept]; none give a B without columns.
        ridge: above 0.
    """
    own = gram[kept][:, kept]
    # Channels that are zero everywhere mix to nothing, whatever the ridge.
    strength = ridge * float(own.diagonal().sum()) / max(len(kept), 1) or 1.0
    own.diagonal().add_(strength)
    return torch.cholesky_solve(gram[kept], torch.linalg.cholesky(own)).T
