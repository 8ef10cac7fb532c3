"""The choice of channels of Channel Pruning (He et al., ICCV 2017, Eq. 4): LASSO on coefficients.

    beta = argmin 1/2 || Y - sum beta_c Z_c ||_F^2 + penalty || beta ||_1
         = argmin 1/2 beta^T M beta - v^T beta + penalty || beta ||_1

with Z_c what channel c adds to the output under the teacher's weight, and M and v the inner
products of `fsc.solvers.contributions`: its cost does not grow with the pixels.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# A sweep ends the descent where no step explains more than this share of what one channel can.
TOLERANCE = 1e-12
SWEEPS = 1000
# The penalties that are tried lie between the one that leaves nothing and this share of it.
LEAST_PENALTY = 1e-9
TRIALS = 50


def lasso(
    gram: NDArray[np.float64],
    target: NDArray[np.float64],
    penalty: float,
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The coefficients of a penalty, by cyclic coordinate descent.

    Args:
        gram: M, [C, C].
        target: v, [C].
        penalty: above 0.
        start: where the descent begins, [C]; that of a near penalty saves sweeps.

    Returns:
        beta, [C], with exact zeros.
    """
    found = start.copy()
    curvature = gram.diagonal().tolist()
    residual = target - gram @ found  # v - M beta
    curved = [c for c in range(len(found)) if curvature[c] > 0]
    enough = TOLERANCE * max((float(target[c]) ** 2 / curvature[c] for c in curved), default=0.0)
    for _ in range(SWEEPS):
        largest = 0.0
        for c in curved:
            before = float(found[c])
            alone = float(residual[c]) + curvature[c] * before  # what the others leave to it
            after = max(abs(alone) - penalty, 0.0) / curvature[c]
            step = (after if alone > 0 else -after) - before
            if step:
                residual -= step * gram[c]
                # Not before + step, which would leave rounding where zero is meant.
                found[c] = after if alone > 0 else -after
                largest = max(largest, step * step * curvature[c])
        if largest <= enough:
            break
    return found


def lasso_channels(gram: Tensor, target: Tensor, count: int) -> Tensor:
    """The channels that stay once the penalty leaves so many, in increasing order, [count].

    Where no penalty leaves as many, because channels enter together, those of the largest
    coefficients stay; where none leaves enough, as channels are zero or repeat one another, they
    are followed by those that add most to the output.

    Args:
        gram: M, [C, C].
        target: v, [C].
        count: how many stay, in [1, C].
    """
    own, right = gram.cpu().numpy(), target.cpu().numpy()
    found = np.zeros_like(right)
    if count < len(right):
        found = _with_as_many(own, right, count)
    order = sorted(range(len(right)), key=lambda c: (-abs(found[c]), -own[c, c]))
    return torch.tensor(sorted(order[:count]), device=gram.device)


def _with_as_many(
    gram: NDArray[np.float64], target: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """The coefficients of a penalty that leaves `count`, else of one that leaves few too many."""
    high = float(np.abs(target).max())  # nothing is left at this penalty
    low = LEAST_PENALTY * high
    found = trial = np.zeros_like(target)
    is_enough = False
    for _ in range(TRIALS if high else 0):
        penalty = (low * high) ** 0.5
        trial = lasso(gram, target, penalty, trial)
        left = np.count_nonzero(trial)
        if left >= count or not is_enough:
            found = trial
        if left == count:
            break
        if left > count:
            low, is_enough = penalty, True
        else:
            high = penalty
    return found
