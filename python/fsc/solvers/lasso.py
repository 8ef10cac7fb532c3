"""The choice of channels of Channel Pruning (He et al., ICCV 2017): LASSO on coefficients.

    beta = argmin 1/2 || Y - sum beta_c Z_c ||_F^2 + penalty || beta ||_1
         = argmin 1/2 beta^T M beta - v^T beta + penalty || beta ||_1

with Z_c what channel c adds to the output under the teacher's weight, and M and v the inner
products of `fsc.solvers.contributions`: its cost does not grow with the pixels.

The coefficients are straight lines in the penalty between the values at which one leaves zero or
comes back to it. They are followed from the penalty that leaves nothing, line by line (Efron et
al. 2004, "Least Angle Regression"), which is exact; the paper tries penalties instead.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

# Added to the diagonal, in shares of its largest: of channels that repeat one another, both enter.
RIDGE = 1e-10
# The penalty below which nothing is left to explain, in shares of the largest.
LEAST_PENALTY = 1e-9
# Lines that are followed at most, a channel.
LINES = 8


def lasso_channels(gram: Tensor, target: Tensor, count: int) -> Tensor:
    """The channels that stay at the largest penalty that leaves so many, in increasing order.

    Where none leaves enough, as channels are zero or repeat one another, those that add most to
    the output follow.

    Args:
        gram: M, [C, C] float64.
        target: v, [C].
        count: how many stay, in [1, C].

    Returns:
        Their numbers, int64 [count].
    """
    own = gram.cpu().numpy()
    found, _ = lasso(own, target.cpu().numpy(), count)
    order = sorted(range(len(own)), key=lambda c: (-abs(found[c]), -own[c, c]))
    return torch.tensor(sorted(order[:count]), device=gram.device)


def lasso(gram: Array, target: Array, count: int) -> tuple[Array, float]:
    """The coefficients where so many are not zero, at the largest such penalty but for rounding.

    Args:
        gram: M, [C, C].
        target: v, [C].
        count: at least 1.

    Returns:
        beta [C], with exact zeros, and its penalty; fewer are not zero where no penalty above
        `LEAST_PENALTY` leaves so many.
    """
    damped = gram + RIDGE * np.diag(gram).max() * np.eye(len(gram))
    found, rest = np.zeros_like(target), target.copy()  # beta, and v - M beta
    penalty = highest = float(np.abs(target).max())
    used, barred = [int(np.abs(target).argmax())], -1
    for _ in range(LINES * len(target)):
        if penalty <= LEAST_PENALTY * highest:
            break
        # What the coefficients gain, and the rest loses, while the penalty falls by one.
        gain = np.linalg.solve(damped[np.ix_(used, used)], np.sign(rest[used]))
        loss = damped[:, used] @ gain
        enters = _entering(rest, loss, penalty, [*used, barred])
        leaves = _leaving(found[used], gain)
        fall = min(float(enters.min()), float(leaves.min()), penalty)
        if len(used) == count:
            fall /= 2  # in the middle of the line none is zero
        found[used] += fall * gain
        rest -= fall * loss
        penalty -= fall
        if len(used) == count:
            break
        if leaves.min() <= enters.min():
            barred = used.pop(int(leaves.argmin()))
            found[barred] = 0
        elif enters.min() < np.inf:
            used, barred = [*used, int(enters.argmin())], -1
    return found, penalty


def _entering(rest: Array, loss: Array, penalty: float, out: list[int]) -> Array:
    """By how much the penalty falls until each channel leaves zero, [C]; infinity for some."""
    falls = np.full_like(rest, np.inf)
    for sign in (1.0, -1.0):
        gap = np.maximum(penalty - sign * rest, 0)
        closing = 1 - sign * loss
        falls = np.minimum(
            falls, np.where(closing > 0, gap / np.where(closing > 0, closing, 1), np.inf)
        )
    falls[[c for c in out if c >= 0]] = np.inf
    return falls


def _leaving(found: Array, gain: Array) -> Array:
    """By how much the penalty falls until each coefficient comes back to zero, [used]."""
    shrinks = found * gain < 0
    return np.where(shrinks, -found / np.where(shrinks, gain, 1), np.inf)
