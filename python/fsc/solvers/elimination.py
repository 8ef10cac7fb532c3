"""Choosing input channels by what their removal costs: group optimal brain surgery on a quadratic.

With H damped and W its minimiser, removing the rows g of one channel raises the loss by at least
tr(W_g (H^-1_gg)^-1 W_g^T); the channel of the smallest rise goes, and

    W <- W - W_g (H^-1_gg)^-1 H^-1_g:        H^-1 <- H^-1 - H^-1_:g (H^-1_gg)^-1 H^-1_g:

keep both exact for the channels that remain (Hassibi and Stork 1993, for groups).
"""

from typing import Protocol

import torch
from torch import Tensor


class DampedInverse(Protocol):
    """(H + delta I)^-1 of the rows not yet eliminated, in whichever form is smaller."""

    def blocks(self, groups: Tensor) -> Tensor:
        """Diagonal blocks [G, s, s] of the groups' row numbers [G, s]."""

    def rows(self, group: Tensor) -> Tensor:
        """Rows [s, dim] of one group of row numbers [s]."""

    def eliminate(self, group: Tensor) -> None:
        """Takes one group of row numbers [s] out of the system."""


class DenseInverse:
    """The inverse as a matrix [dim, dim]."""

    def __init__(self, hessian: Tensor, delta: float) -> None:
        """Inverts `hessian` [dim, dim] + delta I by Cholesky."""
        damped = hessian.clone()
        damped.diagonal().add_(delta)
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))

    def blocks(self, groups: Tensor) -> Tensor:
        """Diagonal blocks [G, s, s] of the groups' row numbers [G, s]."""
        return self.inverse[groups[:, :, None], groups[:, None, :]]

    def rows(self, group: Tensor) -> Tensor:
        """Rows [s, dim] of one group of row numbers [s]."""
        return self.inverse[group]

    def eliminate(self, group: Tensor) -> None:
        """Takes one group of row numbers [s] out of the system."""
        rows = self.inverse[group]  # [s, dim]
        half = torch.linalg.solve(rows[:, group], rows)
        self.inverse.addmm_(rows.T, half, alpha=-1)


class FactoredInverse:
    """The inverse of Z Z^T + delta I by its columns Z [dim, R], with R < dim.

    (Z Z^T + delta I)^-1 = (I - Q Z^T) / delta with Q = Z (Z^T Z + delta I)^-1 (Woodbury).
    """

    def __init__(self, columns: Tensor, delta: float) -> None:
        """Solves the R x R system of `columns` [dim, R]."""
        self.columns = columns
        self.delta = delta
        inner = columns.T @ columns
        inner.diagonal().add_(delta)
        self.product = torch.cholesky_solve(columns.T, torch.linalg.cholesky(inner)).T  # Q

    def blocks(self, groups: Tensor) -> Tensor:
        """Diagonal blocks [G, s, s] of the groups' row numbers [G, s]."""
        inner = self.product[groups] @ self.columns[groups].transpose(1, 2)
        return (torch.eye(groups.shape[1], dtype=inner.dtype) - inner) / self.delta

    def rows(self, group: Tensor) -> Tensor:
        """Rows [s, dim] of one group of row numbers [s]."""
        rows = -(self.product[group] @ self.columns.T)
        rows[torch.arange(len(group)), group] += 1
        return rows / self.delta

    def eliminate(self, group: Tensor) -> None:
        """Takes one group of row numbers [s] out of the system."""
        product, columns = self.product[group], self.columns[group]  # [s, R]
        inner = torch.eye(len(group), dtype=columns.dtype) - product @ columns.T
        self.product.addmm_(self.product @ columns.T, torch.linalg.solve(inner, product))


def eliminate_channels(
    weight: Tensor, inverse: DampedInverse, groups: Tensor, count: int
) -> list[int]:
    """Removes channels one by one, the cheapest first, until `count` remain.

    Args:
        weight: the damped minimiser on all channels, [C_out, dim]; overwritten.
        inverse: the damped inverse of the same quadratic; overwritten.
        groups: row numbers of each input channel, [C_in, s].
        count: how many channels stay, at least 1.

    Returns:
        The kept channels in increasing order.
    """
    alive = list(range(len(groups)))
    while len(alive) > count:
        rows = groups[alive]  # [G, s]
        blocks = inverse.blocks(rows)
        slices = weight[:, rows].permute(1, 0, 2)  # [G, C_out, s]
        rises = (torch.linalg.solve(blocks, slices.transpose(1, 2)).transpose(1, 2) * slices).sum(
            (1, 2)
        )
        cheapest = int(rises.argmin())
        group = rows[cheapest]
        weight -= torch.linalg.solve(blocks[cheapest], weight[:, group].T).T @ inverse.rows(group)
        inverse.eliminate(group)
        # Rounding leaves crumbs where exact arithmetic has zeros.
        weight[:, group] = 0
        alive.pop(cheapest)
    return alive
