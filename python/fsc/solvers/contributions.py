"""What each input channel adds to a layer's output, by the inner products of these contributions.

With Z_c = W_c U_c what channel c adds to the output, [C_out, columns], and Y the target without the
teacher's bias,

    M_cd = <Z_c, Z_d> = tr(W_c H_cd W_d^T)        v_c = <Y, Z_c> = tr(W_c (Y U_c^T)^T)

hold all that choosing channels by their contributions needs: || Y - sum b_c Z_c ||_F^2 is
b^T M b - 2 v^T b + const, whatever the number of pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import Quadratic


@dataclass(frozen=True)
class Contributions:
    """Inner products of contributions.

    Attributes:
        gram: M, [C_in, C_in] float64.
        target: v, [C_in] float64.
        num_images: that they are summed over.
    """

    gram: Tensor
    target: Tensor
    num_images: int


def contributions(quadratic: Quadratic, weight: Tensor, patch: Patch) -> Contributions:
    """The contributions of a layer's input channels under a weight.

    Args:
        quadratic: the layer objective, whose inputs and target they are.
        weight: [C_out, dim] float64, bias as last column where `patch.bias`.
        patch: the geometry of the layer.

    Raises:
        LinAlgError: they are not finite.
    """
    count, size = patch.in_channels, patch.group_size
    rows = torch.arange(count * size, device=weight.device)
    own = weight[:, rows]  # [C_out, C_in s]
    products = (own.T @ own).mul_(quadratic.hessian_on(rows))  # [C_in s, C_in s]
    bias = weight.clone()
    bias[:, rows] = 0
    # The gradient at the bias alone is -2 / N times (target - bias) U^T.
    cross = quadratic.gradient(bias)[:, rows] * (-quadratic.num_images / 2)
    gram = products.view(count, size, count, size).sum((1, 3))
    target = (own * cross).sum(0).view(count, size).sum(1)
    if not bool(gram.isfinite().all() and target.isfinite().all()):
        raise torch.linalg.LinAlgError("contributions must be finite, got NaN or Inf")
    return Contributions(gram, target, quadratic.num_images)
