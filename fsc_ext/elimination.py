"""Optimal brain surgery on single weights: in which order the weights of a quadratic go."""

import torch
from torch import Tensor

from fsc_ext._arguments import require_tensors

_ops = torch.ops.fsc_ext


def elimination_order(weight: Tensor, inverse: Tensor, removable: int) -> tuple[Tensor, Tensor]:
    r"""The order in which the weights of each row are removed, the cheapest first.

    With w the minimiser of a row's quadratic and :math:`P = H^{-1}`, removing weight i raises the
    quadratic by :math:`w_i^2 / P_{ii}`; the weights that remain take over, exactly:

    .. math:: w \leftarrow w - \frac{w_i}{P_{ii}} P_{:i} \qquad
              P \leftarrow P - \frac{P_{:i} P_{i:}}{P_{ii}}

    (Hassibi and Stork 1993, Optimal Brain Surgeon, one row of a layer at a time.)

    Args:
        weight: the minimisers, [B, dim] float64.
        inverse: the inverse Hessians, symmetric positive definite, [B, dim, dim] float64, or
            [1, dim, dim] where all rows share one.
        removable: only the first so many weights of a row may go, in [0, dim].

    Returns:
        The removed positions in order, int64 [B, removable], and what each removal cost, float64
        [B, removable]. Of equal costs the first position goes first.

    Raises:
        RuntimeError: a shape or dtype does not fit, or `removable` is out of range.
        ValueError: the tensors are on different devices.

    Example:
        >>> order, rises = elimination_order(
        ...     torch.tensor([[3.0, 1.0, 2.0]]).double(), torch.eye(3).double()[None], 3
        ... )
        >>> order, rises
        (tensor([[1, 2, 0]]), tensor([[1., 4., 9.]], dtype=torch.float64))
    """
    require_tensors("elimination_order", weight=weight, inverse=inverse)
    return _ops.elimination_order(weight, inverse, removable)


@torch.library.register_fake("fsc_ext::elimination_order")
def _(weight: Tensor, inverse: Tensor, removable: int) -> tuple[Tensor, Tensor]:
    shape = (weight.shape[0], removable)
    return weight.new_empty(shape, dtype=torch.int64), weight.new_empty(shape)


def _no_gradient(ctx: object, *grads: Tensor) -> None:
    raise RuntimeError("elimination_order: an order has no gradient; call it under torch.no_grad()")


torch.library.register_autograd("fsc_ext::elimination_order", _no_gradient)
