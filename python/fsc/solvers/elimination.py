"""Choosing input channels by what their removal costs: group optimal brain surgery on a quadratic.

With H damped and W its minimiser, removing the rows g of one channel raises the loss by at least
tr(W_g (H^-1_gg)^-1 W_g^T); the channel of the smallest rise goes, and

    W <- W - W_g (H^-1_gg)^-1 H^-1_g:        H^-1 <- H^-1 - H^-1_:g (H^-1_gg)^-1 H^-1_g:

keep both exact for the channels that remain (Hassibi and Stork 1993, for groups).
"""

from typing import Protocol

import torch
from torch import Tensor

# Rows that are taken out until the weight is changed by all of them at once.
_SETTLED = 64
# What went is left out of the matrices when it is a share of one in so many.
_FORGOTTEN = 8


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

    def keep(self, rows: Tensor) -> None:
        """Forgets all but these row numbers, which count from zero from now on."""


def damped_factor(matrix: Tensor, delta: float) -> Tensor:
    """The Cholesky factor L of `matrix` + delta I, both [n, n]."""
    damped = matrix.clone()
    damped.diagonal().add_(delta)
    return torch.linalg.cholesky(damped)


class DenseInverse:
    """The inverse as a matrix [dim, dim].

    The matrix is never updated: the F of every group that went stand below one another, so that
    only the rows that are asked for are ever computed.
    """

    def __init__(self, lower: Tensor) -> None:
        """Inverts H + delta I by its factor [dim, dim], see `damped_factor`."""
        self.inverse = torch.cholesky_inverse(lower)
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

    def keep(self, rows: Tensor) -> None:
        """Forgets all but these row numbers, which count from zero from now on."""
        self.inverse = self.inverse[rows][:, rows]
        # As many more may go as there are rows left.
        factors = self.factors.new_empty(self.num_removed + len(rows), len(rows))
        factors[: self.num_removed] = self.factors[: self.num_removed, rows]
        self.factors = factors


class FactoredInverse:
    """The inverse of Z Z^T + delta I by its columns Z [dim, R], with R < dim.

    (Z Z^T + delta I)^-1 = (I - Z K Z^T) / delta with K = (Z^T Z + delta I)^-1 (Woodbury); taking
    rows out changes K alone.
    """

    def __init__(self, columns: Tensor, lower: Tensor, delta: float) -> None:
        """Inverts Z^T Z + delta I by its factor [R, R], see `damped_factor`."""
        self.columns = columns.clone()
        self.delta = delta
        self.inner = torch.cholesky_inverse(lower)  # K

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

    def keep(self, rows: Tensor) -> None:
        """Forgets all but these row numbers, which count from zero from now on."""
        self.columns = self.columns[rows]


class Elimination:
    """What the choice needs to know after every channel taken out so far.

    A removal reads every matrix once, which is what it waits for: so the weight is changed by
    several removals at once, and what went is left out of the matrices from time to time.

    Args:
        weight: the damped minimiser on all channels, [C_out, dim].
        inverse: the damped inverse of the same quadratic; overwritten.
        groups: row numbers of each input channel that may go, [G, s].
    """

    def __init__(self, weight: Tensor, inverse: DampedInverse, groups: Tensor) -> None:
        """Starts with nothing taken out."""
        self._inverse = inverse
        self._count, self._dim = len(groups), weight.shape[1]
        # The channels and rows that the matrices hold, by the numbers they had at first.
        self._channels = torch.arange(len(groups), device=groups.device)
        self._rows = torch.arange(self._dim, device=groups.device)
        self._groups = groups  # rows of the matrices, [G, s]
        self._gone = groups.new_zeros(len(groups), dtype=torch.bool)
        self._num_gone = 0
        # A copy, also of one row, which is contiguous either way.
        self._weight = weight.T.clone(memory_format=torch.contiguous_format)  # [dim, C_out]
        # What it has yet to lose: factor^T share, [rows, dim] and [rows, C_out].
        self._factor = self._weight.new_empty(0, self._dim)
        self._share = self._weight.new_empty(0, len(weight))
        slices = self._weight[groups]  # [G, s, C_out]
        self._power = slices @ slices.transpose(1, 2)  # W_g^T W_g, [G, s, s]
        self._blocks = inverse.blocks(groups)  # H^-1_gg, [G, s, s]

    @property
    def weight(self) -> Tensor:
        """The minimiser on the channels that remain, [dim, C_out]; zero where they went."""
        self._settle()
        found = self._weight.new_zeros(self._dim, self._weight.shape[1])
        found[self._rows] = self._weight
        return found

    def rises(self) -> Tensor:
        """What taking out each channel costs, [G]; meaningless where it went already."""
        found = self._power.new_zeros(self._count)
        costs = torch.linalg.solve(self._blocks, self._power).diagonal(dim1=1, dim2=2).sum(1)
        found[self._channels] = costs
        return found

    def remove(self, channels: Tensor) -> float:
        """Takes some channels out at once, numbers [B]; returns by how much the loss rises."""
        places = torch.searchsorted(self._channels, channels)
        rows = self._groups[places].flatten()  # [B s]
        lower, factor = self._inverse.remove(rows)
        weight = self._weight[rows] - self._factor[:, rows].T @ self._share  # [B s, C_out]
        share = torch.linalg.solve_triangular(lower, weight, upper=False)
        # share^T W, [B s, dim], of the weight as it would be without what it has yet to lose.
        product = share @ self._weight.T - (share @ self._share.T) @ self._factor
        local = factor.T[self._groups]  # [G, s, B s]
        cross = product.T[self._groups] @ local.transpose(1, 2)  # [G, s, s]
        self._power += local @ (share @ share.T) @ local.transpose(1, 2)
        self._power -= cross + cross.transpose(1, 2)
        self._blocks -= local @ local.transpose(1, 2)
        self._factor = torch.cat([self._factor, factor])
        self._share = torch.cat([self._share, share])
        # Their own blocks are zero now but for rounding; the identity keeps the batch solvable.
        size = self._groups.shape[1]
        self._blocks[places] = torch.eye(size, dtype=share.dtype, device=share.device)
        self._gone[places] = True
        self._num_gone += len(places)
        self._tidy()
        return float(share.square().sum())

    def _settle(self) -> None:
        """Changes the weight by the removals that it has yet to see."""
        self._weight.addmm_(self._factor.T, self._share, alpha=-1)
        self._factor, self._share = self._factor[:0], self._share[:0]

    def _tidy(self) -> None:
        """Settles, and leaves out what went, where that is much by now."""
        if len(self._factor) >= _SETTLED:
            self._settle()
        if self._num_gone * _FORGOTTEN < len(self._channels):
            return
        self._settle()
        stays = self._rows.new_ones(len(self._rows), dtype=torch.bool)
        stays[self._groups[self._gone].flatten()] = False
        kept, rows = ~self._gone, stays.nonzero().flatten()
        self._inverse.keep(rows)
        self._weight, self._rows = self._weight[rows], self._rows[rows]
        self._factor = self._factor[:, rows]
        self._groups = (stays.cumsum(0) - 1)[self._groups[kept]]
        self._channels, self._gone = self._channels[kept], self._gone[kept]
        self._num_gone = 0
        self._power, self._blocks = self._power[kept], self._blocks[kept]


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
