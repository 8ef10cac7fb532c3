"""The proximal operators of `fsc_ext.prox` for all layers of a network: lists in one call."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fsc_ext._arguments import listed_tensors, require_empty
from fsc_ext.prox import require_writable

_ops = torch.ops.fsc_ext


def foreach_prox_group_l2_(
    weights: Sequence[Tensor], thresholds: float | Sequence[float], dim: int = 0
) -> None:
    r"""`prox_group_l2_` on every tensor of a list, in place.

    .. math:: W_{ig} \leftarrow \max(1 - \lambda_i / \|W_{ig}\|_2, 0) \, W_{ig}

    Cross Distillation (Bai et al., 2020), Eq. 11, for all layers of a network, with the bits of
    `prox_group_l2_`; on CUDA devices norms and thresholds are one or two launches for up to 56.
    Everything is checked before anything is changed, and an empty list is no error.

    Args:
        weights: tensors of any shapes of rank at least 1, all of one dtype, float32 or float64;
            none of them twice.
        thresholds: finite and at least 0, one for all weights or one for each.
        dim: the dimension that numbers the groups.

    Raises:
        RuntimeError: an argument breaks its rule, a tensor is there twice, or a weight requires a
            gradient.
        ValueError: the tensors are on different devices.

    Example:
        >>> weights = [torch.tensor([[3.0, 4.0], [0.3, 0.4]]), torch.tensor([2.0])]
        >>> foreach_prox_group_l2_(weights, [1.0, 0.5])
        >>> weights[1]
        tensor([1.5000])
    """
    weights = listed_tensors("foreach_prox_group_l2_", weights=weights)["weights"]
    for index, weight in enumerate(weights):
        require_writable("foreach_prox_group_l2_", f"weights[{index}]", weight)
    if isinstance(thresholds, int | float):
        thresholds = [thresholds] * len(weights)
    if not weights:  # without any tensor the dispatcher finds no device
        require_empty("foreach_prox_group_l2_", "numbers", thresholds=thresholds)
        return
    _ops.foreach_prox_group_l2_(weights, thresholds, dim)


@torch.library.register_fake("fsc_ext::foreach_prox_group_l2_")
def _(weights: list[Tensor], thresholds: list[float], dim: int) -> None:
    return None
