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
    """(H + delta I)^-1 of the rows not yet taken out, in whichever form is smaller."""

    def blocks(self, groups: Tensor) -> Tensor:
        """Diagonal blocks [G, s, s] of the groups' row numbers [G, s], before any went."""

    def remove(self, group: Tensor) -> tuple[Tensor, Tensor]:
        """Takes one group of row numbers [s] out of the system.

        Returns:
            L [s, s], the Cholesky factor of the group's diagonal block, and F [s, dim] with
            H^-1 of now = H^-1 of before - F^T F.
        """


class DenseInverse:
    """The inverse as a matrix [dim, dim].

    The matrix is never updated: the F of every group that went stand below one another, so that
    only the rows that are asked for are ever computed.
    """

    def __init__(self, hessian: Tensor, delta: float) -> None:
        """Inverts `hessian` [dim, dim] + delta I by Cholesky."""
        damped = hessian.clone()
        damped.diagonal().add_(delta)
        self.inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
        self.factors = torch.empty_like(self.inverse)
        self.num_removed = 0

    def blocks(self, groups: Tensor) -> Tensor:
        """Diagonal blocks [G, s, s] of the groups' row numbers [G, s], before any went."""
        return self.inverse[groups[:, :, None], groups[:, None, :]]

    def remove(self, group: Tensor) -> tuple[Tensor, Tensor]:
        """Takes one group of row numbers [s] out of the system: L [s, s], F [s, dim]."""
        done = self.factors[: self.num_removed]
        rows = self.inverse[group] - done[:, group].T @ done  # [s, dim]
        lower = torch.linalg.cholesky(rows[:, group])
        factor = torch.linalg.solve_triangular(lower, rows, upper=False)
        self.factors[self.num_removed : self.num_removed + len(group)] = factor
        self.num_removed += len(group)
        return lower, factor


class FactoredInverse:
    """The inverse of Z Z^T + delta I by its columns Z [dim, R], with R < dim.

    (Z Z^T + delta I)^-1 = (I - Z K Z^T) / delta with K = (Z^T Z + delta I)^-1 (Woodbury); taking
    rows out changes K alone.
    """

    def __init__(self, columns: Tensor, delta: float) -> None:
        """Inverts the R x R system of `columns` [dim, R]."""
        self.columns = columns.clone()
        self.delta = delta
        inner = columns.T @ columns
        inner.diagonal().add_(delta)
        self.inner = torch.cholesky_inverse(torch.linalg.cholesky(inner))  # K

    def blocks(self, groups: Tensor) -> Tensor:
        """Diagonal blocks [G, s, s] of the groups' row numbers [G, s], before any went."""
        explained = (self.columns @ self.inner)[groups] @ self.columns[groups].transpose(1, 2)
        identity = torch.eye(groups.shape[1], dtype=explained.dtype, device=explained.device)
        return (identity - explained) / self.delta

    def remove(self, group: Tensor) -> tuple[Tensor, Tensor]:
        """Takes one group of row numbers [s] out of the system: L [s, s], F [s, dim]."""
        spread = self.columns[group] @ self.inner  # Z_g K, [s, R]
        rows = -(spread @ self.columns.T)  # [s, dim]
        rows[torch.arange(len(group), device=group.device), group] += 1
        rows /= self.delta
        lower = torch.linalg.cholesky(rows[:, group])
        half = torch.linalg.solve_triangular(lower, spread, upper=False)  # [s, R]
        self.inner.addmm_(half.T, half, alpha=1 / self.delta)
        self.columns[group] = 0
        return lower, torch.linalg.solve_triangular(lower, rows, upper=False)


class Elimination:
    """What the choice needs to know after every channel taken out so far.

    Args:
        weight: the damped minimiser on all channels, [C_out, dim].
        inverse: the damped inverse of the same quadratic; overwritten.
        groups: row numbers of each input channel that may go, [G, s].
    """

    def __init__(self, weight: Tensor, inverse: DampedInverse, groups: Tensor) -> None:
        """Starts with nothing taken out."""
        self.inverse = inverse
        self.groups = groups
        # A copy, also of one row, which is contiguous either way.
        self.weight = weight.T.clone(memory_format=torch.contiguous_format)  # [dim, C_out]
        slices = self.weight[groups]  # [G, s, C_out]
        self.power = slices @ slices.transpose(1, 2)  # W_g^T W_g, [G, s, s]
        self.blocks = inverse.blocks(groups)  # H^-1_gg, [G, s, s]

    def rises(self) -> Tensor:
        """What taking out each channel costs, [G]; meaningless where it went already."""
        return torch.linalg.solve(self.blocks, self.power).diagonal(dim1=1, dim2=2).sum(1)

    def remove(self, channels: Tensor) -> float:
        """Takes some channels out at once, numbers [B]; returns by how much the loss rises."""
        rows = self.groups[channels].flatten()  # [B s]
        lower, factor = self.inverse.remove(rows)
        share = torch.linalg.solve_triangular(lower, self.weight[rows], upper=False)
        local = factor.T[self.groups]  # [G, s, B s]
        cross = (share @ self.weight.T).T[self.groups] @ local.transpose(1, 2)  # [G, s, s]
        self.power += local @ (share @ share.T) @ local.transpose(1, 2)
        self.power -= cross + cross.transpose(1, 2)
        self.blocks -= local @ local.transpose(1, 2)
        self.weight.addmm_(factor.T, share, alpha=-1)
        # Their own blocks are zero now but for rounding; the identity keeps the batch solvable.
        size = self.groups.shape[1]
        self.blocks[channels] = torch.eye(size, dtype=share.dtype, device=share.device)
        return float(share.square().sum())


def eliminate_channels(
    weight: Tensor, inverse: DampedInverse, groups: Tensor, count: int
) -> list[int]:
    """Removes channels one by one, the cheapest first, until `count` remain.

    Args:
        weight: the damped minimiser on all channels, [C_out, dim].
        inverse: the damped inverse of the same quadratic; overwritten.
        groups: row numbers of each input channel, [C_in, s].
        count: how many channels stay, at least 1.

    Returns:
        The kept channels in increasing order.
    """
    elimination = Elimination(weight, inverse, groups)
    gone = groups.new_zeros(len(groups), dtype=torch.bool)
    for _ in range(len(groups) - count):
        cheapest = elimination.rises().masked_fill(gone, torch.inf).argmin()
        elimination.remove(cheapest[None])
        gone[cheapest] = True
    return (~gone).nonzero().flatten().tolist()
