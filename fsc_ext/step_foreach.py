"""The steps of `fsc_ext.step` for all layers of a network at once: lists of tensors in one call."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from fsc_ext._arguments import listed_tensors, refuse_gradient, require_empty, require_pair
from fsc_ext.step import IN_PLACE

_ops = torch.ops.fsc_ext


def _listed(op: str, **lists: Iterable[Tensor] | None) -> dict[str, list[Tensor]]:
    """The lists as lists, those not given empty, and what the dispatcher would not see of them."""
    # None of others is refused there.
    given: dict[str, Any] = {
        name: [] if tensors is None and name in ("masks", "momentum_buffers") else tensors
        for name, tensors in lists.items()
    }
    found = listed_tensors(op, **given)
    for name, tensors in found.items():
        for index, tensor in enumerate(tensors if name != "grads" else []):
            refuse_gradient(op, f"{name}[{index}]", tensor, IN_PLACE)
    return found


def foreach_adam_prox_(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    exp_avgs: Sequence[Tensor],
    exp_avg_sqs: Sequence[Tensor],
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    penalty: str = "none",
    amounts: Sequence[float] | None = None,
    dim: int = 1,
    masks: Sequence[Tensor] | None = None,
) -> None:
    r"""`adam_prox_` on every tensor of a list, in place.

    .. math:: W_i \leftarrow
        \operatorname{prox}_i(W_i - \eta \hat m_i / (\sqrt{\hat v_i} + \epsilon))

    The line of Algorithm 1 of Cross Distillation (Bai et al., 2020) for all layers of a network,
    with the bits of `adam_prox_`. On CUDA devices one launch updates all tensors and does the
    soft thresholds of "l1", a second one those of "group_l2"; other penalties follow tensor by
    tensor. Everything is checked before anything is changed, and an empty list is no error.

    Args:
        weights: tensors of any shapes of rank at least 1, all of one dtype, float32 or float64;
            none of them twice.
        grads: one for each weight, of its shape and dtype.
        exp_avgs: first moments, likewise; zeros before the first step.
        exp_avg_sqs: second moments, likewise.
        step: the number of this step, from 1, for the correction of the moments.
        lr: learning rate, finite and at least 0.
        betas: decay of the two moments, in [0, 1).
        eps: finite and at least 0.
        penalty: as in `adam_prox_`, the same for every weight.
        amounts: thresholds, or how many stay (whole numbers), one for each weight; None is for
            "none" only.
        dim: the dimension that numbers the groups.
        masks: bool, one for each weight and of its shape; all true before the first step; given
            with "topk" and "topk_groups" only.

    Raises:
        RuntimeError: an argument breaks its rule, a tensor that changes is there twice, or a
            weight requires a gradient.
        ValueError: the tensors are on different devices.

    Example:
        >>> weights = [torch.tensor([1.0, -2.0]), torch.tensor([[3.0]])]
        >>> grads = [torch.ones(2), torch.ones(1, 1)]
        >>> moments = [[torch.zeros(2), torch.zeros(1, 1)] for _ in range(2)]
        >>> settings = {"lr": 0.5, "penalty": "l1", "dim": 0}
        >>> foreach_adam_prox_(weights, grads, *moments, 1, amounts=[1.0, 0.25], **settings)
        >>> weights
        [tensor([ 0.0000, -1.5000]), tensor([[2.2500]])]
    """
    op = "foreach_adam_prox_"
    lists = _listed(
        op, weights=weights, grads=grads, exp_avgs=exp_avgs, exp_avg_sqs=exp_avg_sqs, masks=masks
    )
    if not any(lists.values()):  # without any tensor the dispatcher finds no device
        require_empty(op, "numbers", amounts=amounts or ())
    else:
        _ops.foreach_adam_prox_(
            *lists.values(), step, lr, *require_pair(op, "betas", betas), eps, penalty, amounts, dim
        )


def foreach_sgd_prox_(
    weights: Sequence[Tensor],
    grads: Sequence[Tensor],
    momentum_buffers: Sequence[Tensor] | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    penalty: str = "none",
    amounts: Sequence[float] | None = None,
    dim: int = 1,
    masks: Sequence[Tensor] | None = None,
) -> None:
    r"""`sgd_prox_` on every tensor of a list, in place.

    .. math:: B_i \leftarrow \mu B_i + G_i, \qquad
        W_i \leftarrow \operatorname{prox}_i(W_i - \eta B_i)

    The arithmetic of `torch.optim.SGD`, with the bits of `sgd_prox_`; launches and checks as in
    `foreach_adam_prox_`.

    Args:
        weights: tensors of any shapes of rank at least 1, all of one dtype, float32 or float64;
            none of them twice.
        grads: one for each weight, of its shape and dtype.
        momentum_buffers: likewise, zeros before the first step; None where `momentum` is 0.
        lr: learning rate, finite and at least 0.
        momentum: in [0, 1).
        penalty: as in `adam_prox_`, the same for every weight.
        amounts: as in `foreach_adam_prox_`.
        dim: the dimension that numbers the groups.
        masks: as in `foreach_adam_prox_`.

    Raises:
        RuntimeError: an argument breaks its rule, a tensor that changes is there twice, or a
            weight requires a gradient.
        ValueError: the tensors are on different devices.

    Example:
        >>> weights = [torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([[4.0, 1.0]])]
        >>> grads = [torch.zeros_like(weight) for weight in weights]
        >>> foreach_sgd_prox_(weights, grads, lr=0.1, penalty="soft_topk", amounts=[1, 2])
        >>> weights
        [tensor([[ 0., -1.,  0.]]), tensor([[4., 1.]])]
    """
    lists = _listed(
        "foreach_sgd_prox_",
        weights=weights,
        grads=grads,
        momentum_buffers=momentum_buffers,
        masks=masks,
    )
    if not any(lists.values()):  # without any tensor the dispatcher finds no device
        require_empty("foreach_sgd_prox_", "numbers", amounts=amounts or ())
    else:
        _ops.foreach_sgd_prox_(*lists.values(), lr, momentum, penalty, amounts, dim)


@torch.library.register_fake("fsc_ext::foreach_adam_prox_")
def _(weights: list[Tensor], *others: object) -> None:
    return None


@torch.library.register_fake("fsc_ext::foreach_sgd_prox_")
def _(weights: list[Tensor], *others: object) -> None:
    return None
