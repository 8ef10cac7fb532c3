"""ThiNet's choice of channels (Luo et al., ICCV 2017, Algorithm 1): greedy, nothing corrected.

The set T of removed channels grows by the one that keeps what is removed together smallest,

    argmin_c || sum over d in T and c of Z_d ||_F^2 = argmin_c M_cc + 2 sum over d in T of M_cd

(Eq. 6) with M the inner products of contributions, see `fsc.solvers.contributions`. The paper sums
over sampled pixels of sampled filters; M has all pixels of all filters.
"""

import torch
from torch import Tensor


def greedy_channels(gram: Tensor, count: int) -> Tensor:
    """The channels that stay, in increasing order, [count].

    Args:
        gram: M, [C_in, C_in].
        count: how many stay, in [1, C_in].
    """
    costs = gram.diagonal().clone()  # of each channel beside those removed
    for _ in range(len(gram) - count):
        cheapest = costs.argmin()
        costs += 2 * gram[cheapest]
        costs[cheapest] = torch.inf
    return costs.isfinite().nonzero().flatten()
