"""One step of an optimiser with the proximal operator behind it, in one call.

`fsc_ext.step_foreach` has the same for lists of tensors.
"""

import torch
from torch import Tensor

from fsc_ext._arguments import refuse_gradient, require_pair, require_tensors

_ops = torch.ops.fsc_ext
IN_PLACE = "a step in place"  # what has no gradient, in words


def adam_prox_(
    weight: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: int,
    *,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    penalty: str = "none",
    amount: float = 0.0,
    dim: int = 1,
    mask: Tensor | None = None,
) -> None:
    r"""A step of Adam, then the proximal operator of a penalty, in place.

    .. math:: W \leftarrow \operatorname{prox}(W - \eta \hat m / (\sqrt{\hat v} + \epsilon))

    The line of Algorithm 1 of Cross Distillation (Bai et al., 2020) with the arithmetic of
    `torch.optim.Adam`. Without penalty and with "l1" it is one pass over memory.

    What follows the step, by `penalty`:

    - "none": nothing;
    - "l1": soft threshold of every weight by `amount` (Eq. 10);
    - "group_l2": block soft threshold of the slices along `dim` by `amount` (Eq. 11);
    - "topk": all but the `amount` largest weights become zero, for good;
    - "topk_groups": all but the `amount` slices of largest norm become zero, for good;
    - "soft_topk": soft threshold by the largest weight that goes: `amount` stay;
    - "soft_topk_groups": block soft threshold by the largest norm that goes: `amount` slices stay.

    The two hard ones are those of the released code: the gradient is masked before the step, the
    mask renewed after it, and the moments of what went become zero.

    Args:
        weight: any shape of rank at least 1, float32 or float64.
        grad: of the shape and dtype of `weight`.
        exp_avg: first moment, likewise; zeros before the first step.
        exp_avg_sq: second moment, likewise.
        step: the number of this step, from 1, for the correction of the moments.
        lr: learning rate, finite and at least 0.
        betas: decay of the two moments, in [0, 1).
        eps: finite and at least 0.
        penalty: see above.
        amount: threshold, or how many stay (a whole number).
        dim: the dimension that numbers the groups.
        mask: bool, of the shape of `weight`; all true before the first step; given with "topk"
            and "topk_groups" only.

    Raises:
        RuntimeError: an argument breaks its rule, or `weight` requires a gradient.
        ValueError: the tensors are on different devices.

    Example:
        >>> weight, moments = torch.tensor([1.0, -2.0]), torch.zeros(2, 2)
        >>> adam_prox_(weight, torch.ones(2), *moments, 1, lr=0.5, penalty="l1", amount=1.0, dim=0)
        >>> weight
        tensor([ 0.0000, -1.5000])
    """
    require_tensors(
        "adam_prox_",
        ("mask",),
        weight=weight,
        grad=grad,
        exp_avg=exp_avg,
        exp_avg_sq=exp_avg_sq,
        mask=mask,
    )
    for name, tensor in (("weight", weight), ("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        refuse_gradient("adam_prox_", name, tensor, IN_PLACE)
    _ops.adam_prox_(
        weight,
        grad,
        exp_avg,
        exp_avg_sq,
        mask,
        step,
        lr,
        *require_pair("adam_prox_", "betas", betas),
        eps,
        penalty,
        amount,
        dim,
    )


def sgd_prox_(
    weight: Tensor,
    grad: Tensor,
    momentum_buffer: Tensor | None = None,
    *,
    lr: float,
    momentum: float = 0.0,
    penalty: str = "none",
    amount: float = 0.0,
    dim: int = 1,
    mask: Tensor | None = None,
) -> None:
    r"""A step of gradient descent, then the proximal operator of a penalty, in place.

    .. math:: B \leftarrow \mu B + G, \qquad W \leftarrow \operatorname{prox}(W - \eta B)

    The arithmetic of `torch.optim.SGD`; penalties as in `adam_prox_`.

    Args:
        weight: any shape of rank at least 1, float32 or float64.
        grad: of the shape and dtype of `weight`.
        momentum_buffer: likewise, zeros before the first step; None where `momentum` is 0.
        lr: learning rate, finite and at least 0.
        momentum: in [0, 1).
        penalty: as in `adam_prox_`.
        amount: threshold, or how many stay (a whole number).
        dim: the dimension that numbers the groups.
        mask: as in `adam_prox_`.

    Raises:
        RuntimeError: an argument breaks its rule, or `weight` requires a gradient.
        ValueError: the tensors are on different devices.

    Example:
        >>> weight = torch.tensor([[1.0, -2.0, 0.5]])
        >>> sgd_prox_(weight, torch.zeros(1, 3), lr=0.1, penalty="soft_topk", amount=1)
        >>> weight
        tensor([[ 0., -1.,  0.]])
    """
    require_tensors(
        "sgd_prox_",
        ("momentum_buffer", "mask"),
        weight=weight,
        grad=grad,
        momentum_buffer=momentum_buffer,
        mask=mask,
    )
    for name, tensor in (("weight", weight), ("momentum_buffer", momentum_buffer)):
        refuse_gradient("sgd_prox_", name, tensor, IN_PLACE)
    _ops.sgd_prox_(weight, grad, momentum_buffer, mask, lr, momentum, penalty, amount, dim)


@torch.library.register_fake("fsc_ext::adam_prox_")
def _(weight: Tensor, *others: object) -> None:
    return None


@torch.library.register_fake("fsc_ext::sgd_prox_")
def _(weight: Tensor, *others: object) -> None:
    return None
