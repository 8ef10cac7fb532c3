"""The 1x1 convolution that takes a student's channels to its teacher's (FSKD, Eq. 1).

    Q = argmin || Q X_S - X_T ||_F^2 + delta || Q - I ||_F^2,    delta = damping * mean diag(G_SS)

with X [C, pixels] what both give, G_SS = X_S X_S^T and G_TS = X_T X_S^T.
"""

import torch
from torch import Tensor

# Damping of so many times what may be rounding leaves no eigenvalue to be looked at.
_CERTAIN = 4


def pointwise(
    gram_student: Tensor,
    gram_cross: Tensor,
    damping: float,
    *,
    precision: float = 2.0**-52,
    has_bias: bool = False,
) -> Tensor:
    """Q, as near to the identity as the images leave it.

    With little damping the change Q - I solves (Q - I) G_SS = G_TS - G_SS on the eigenvectors of
    G_SS that the images determine. What they leave open stays as the identity has it.

    Args:
        gram_student: G_SS, [C, C] float64; for a bias of X_S and a last row of ones.
        gram_cross: G_TS, [C, C] float64; for a bias of both with such a row.
        damping: at least 0.
        precision: relative, of what the Gram matrices were made of: eigenvalues below C times the
            largest times that are rounding.
        has_bias: whether the last row is one of ones; nothing damps what it gives.

    Returns:
        Q, [C, C]; with a bias [[Q, b], [0, 1]].

    Raises:
        LinAlgError: what is given is not finite, or float64 finds no factors of it.
    """
    if not (gram_student.isfinite().all() and gram_cross.isfinite().all()):
        raise torch.linalg.LinAlgError("Gram matrices must be finite, got NaN or Inf")
    size = len(gram_student) - has_bias
    mean_square = gram_student.diagonal()[:size].mean()
    delta = damping * (float(mean_square) or 1.0)
    damped = gram_student.clone()
    damped.diagonal()[:size].add_(delta)
    if damping >= _CERTAIN * size * precision:
        target = gram_cross.clone()
        target.diagonal()[:size].add_(delta)
        return torch.cholesky_solve(target.T, torch.linalg.cholesky(damped)).T
    unit = torch.ones_like(damped[0])
    unit[size:] = (mean_square / gram_student.diagonal()[size:]).sqrt()  # as large as a channel
    wanted = (gram_cross - gram_student) * unit
    change = _on_determined(unit[:, None] * damped * unit, wanted, precision) * unit
    change.diagonal().add_(1)
    return change


def _on_determined(gram: Tensor, wanted: Tensor, precision: float) -> Tensor:
    """The smallest D with D G = R on the eigenvectors of G [C, C] that are more than rounding."""
    values, vectors = torch.linalg.eigh(gram)
    determined = values > len(gram) * precision * values[-1].clamp_min(0)
    basis = vectors[:, determined]  # [C, rank]
    return wanted @ basis / values[determined] @ basis.T
