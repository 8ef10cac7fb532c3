"""Loops of an optimiser with a proximal operator behind every step, without a return to Python."""

import torch
from torch import Tensor

from fsc_ext._loop_arguments import (
    coefficients_of,
    is_adam,
    new_mask,
    new_state,
    require_loop_tensors,
    require_schedules,
)

_ops = torch.ops.fsc_ext


def solve_quadratic_(
    weight: Tensor,
    hessian: Tensor,
    target: Tensor,
    learning_rates: Tensor,
    amounts: Tensor,
    *,
    scale: float = 1.0,
    optimizer: str = "adam",
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum: float = 0.0,
    penalty: str = "none",
    dim: int = 1,
    state: list[Tensor] | None = None,
    mask: Tensor | None = None,
    first_step: int = 1,
) -> Tensor:
    r"""Lowers a layer's quadratic by steps of an optimiser and a proximal operator, in place.

    .. math:: F(W) = s \, (\operatorname{tr} W H W^\top - 2 \operatorname{tr} W C^\top)

    Algorithm 1 of Cross Distillation (Bai et al., 2020) without activation: H and C are sums over
    the images (Gram matrices), so that a step costs one matrix product. `len(learning_rates)`
    steps are done; step t uses `learning_rates[t]`, then the operator with `amounts[t]`.

    A run may be cut in pieces: give the same `state` and `mask` to each, and go on with
    `first_step`.

    Args:
        weight: W, [C_out, C_in, kH, kW] or [C_out, D], contiguous, float32 or float64.
        hessian: H, [D, D] with D = C_in kH kW, symmetric, in the dtype of `weight`.
        target: C, [C_out, D], likewise.
        learning_rates: [T], float64 on the CPU.
        amounts: [T], float64 on the CPU: thresholds or numbers that stay, see `adam_prox_`.
        scale: s, e.g. 1 / N.
        optimizer: "adam" or "sgd".
        betas: decay of Adam's moments.
        eps: of Adam.
        momentum: of gradient descent.
        penalty: as in `adam_prox_`.
        dim: the dimension of `weight` that numbers the groups.
        state: two tensors of the shape of `weight` for Adam, one for momentum, none otherwise;
            None starts with zeros.
        mask: bool, of the shape of `weight`, for "topk" and "topk_groups"; None starts with all.
        first_step: the number of the first step, from 1.

    Returns:
        F before each step, [T] float64.

    Raises:
        RuntimeError: an argument breaks its rule, or requires a gradient.
        ValueError: the tensors are on different devices.

    Example:
        >>> weight = torch.zeros(1, 2)
        >>> losses = solve_quadratic_(
        ...     weight, torch.eye(2), torch.tensor([[2.0, 1.0]]),
        ...     torch.full((50,), 0.25, dtype=torch.float64),
        ...     torch.ones(50, dtype=torch.float64), optimizer="sgd", penalty="topk",
        ... )
        >>> weight
        tensor([[2., 0.]])
    """
    adam = is_adam("solve_quadratic_", optimizer)
    coefficients = coefficients_of("solve_quadratic_", betas, eps, momentum)
    require_schedules("solve_quadratic_", learning_rates=learning_rates, amounts=amounts)
    require_loop_tensors(
        "solve_quadratic_",
        state,
        ("mask",),
        weight=weight,
        mask=mask,
        hessian=hessian,
        target=target,
    )
    return _ops.solve_quadratic_(
        weight,
        new_state(weight, adam, momentum) if state is None else state,
        new_mask(weight, penalty) if mask is None else mask,
        hessian,
        target,
        learning_rates,
        amounts,
        scale,
        adam,
        coefficients,
        penalty,
        dim,
        first_step,
    )


def solve_relu_(
    weight: Tensor,
    input: Tensor,
    target: Tensor,
    learning_rates: Tensor,
    amounts: Tensor,
    *,
    bias: Tensor | None = None,
    shortcut: Tensor | None = None,
    image_weight: Tensor | None = None,
    scale: float = 1.0,
    activation: str = "relu",
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    batch_size: int = 0,
    optimizer: str = "adam",
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum: float = 0.0,
    penalty: str = "none",
    dim: int = 1,
    state: list[Tensor] | None = None,
    mask: Tensor | None = None,
    first_step: int = 1,
) -> Tensor:
    r"""Lowers a layer's loss on its own inputs by steps and a proximal operator, in place.

    .. math:: F(W) = \frac{s}{N} \sum_n \omega_n
              \| \sigma(W * x_n + b + z_n) - T_n \|_F^2

    Algorithm 1 of Cross Distillation (Bai et al., 2020, Eq. 8 and 9) behind the activation. T and x
    do not change between the steps, so the caller computes them once.

    In float32 on the CPU 3x3 filters of stride 1 go through Winograd's transforms. A gradient that
    is no more than their rounding is 0 there: below 1e-6 of the norms of its channel and its
    filter's residual, or where that residual is below 1e-5 of what the filter's outputs are like.

    Args:
        weight: W, [C_out, C_in, kH, kW], contiguous, float32 or float64.
        input: x, [N, C_in, H, W], in the dtype of `weight`.
        target: T, [N, C_out, H_out, W_out], already activated.
        learning_rates: [T], float64 on the CPU.
        amounts: [T], float64 on the CPU: thresholds or numbers that stay, see `adam_prox_`.
        bias: b, [C_out], which stays as it is.
        shortcut: z, of the shape of `target`: what is added before the activation.
        image_weight: omega, [N]; None is 1 for all.
        scale: s.
        activation: "relu" or "none".
        stride: of the convolution.
        padding: of the convolution.
        dilation: of the convolution.
        batch_size: images a step takes, in order and in turn; 0 takes all. N in the formula is
            then the number of images of the step.
        optimizer: as in `solve_quadratic_`, as are the arguments that follow.
        betas: decay of Adam's moments.
        eps: of Adam.
        momentum: of gradient descent.
        penalty: as in `adam_prox_`.
        dim: the dimension of `weight` that numbers the groups.
        state: as in `solve_quadratic_`.
        mask: as in `solve_quadratic_`.
        first_step: the number of the first step, from 1.

    Returns:
        F before each step, on its images, [T] float64.

    Raises:
        RuntimeError: an argument breaks its rule, or requires a gradient.
        ValueError: the tensors are on different devices.

    Example:
        >>> weight, images = torch.zeros(1, 1, 1, 1), torch.ones(2, 1, 3, 3)
        >>> rates = torch.full((60,), 0.02, dtype=torch.float64)
        >>> losses = solve_relu_(
        ...     weight, images, 2 * images, rates, torch.zeros(60, dtype=torch.float64),
        ...     bias=torch.tensor([0.5]), optimizer="sgd",
        ... )
        >>> f"{weight.item():.4f}"
        '1.5000'
    """
    adam = is_adam("solve_relu_", optimizer)
    coefficients = coefficients_of("solve_relu_", betas, eps, momentum)
    require_schedules("solve_relu_", learning_rates=learning_rates, amounts=amounts)
    require_loop_tensors(
        "solve_relu_",
        state,
        ("mask", "bias", "shortcut", "image_weight"),
        weight=weight,
        mask=mask,
        input=input,
        target=target,
        bias=bias,
        shortcut=shortcut,
        image_weight=image_weight,
    )
    return _ops.solve_relu_(
        weight,
        new_state(weight, adam, momentum) if state is None else state,
        new_mask(weight, penalty) if mask is None else mask,
        input,
        target,
        bias,
        shortcut,
        image_weight,
        learning_rates,
        amounts,
        scale,
        activation,
        stride,
        padding,
        dilation,
        batch_size,
        adam,
        coefficients,
        penalty,
        dim,
        first_step,
    )


@torch.library.register_fake("fsc_ext::solve_quadratic_")
def _(
    weight: Tensor,
    state: list[Tensor],
    mask: Tensor | None,
    hessian: Tensor,
    target: Tensor,
    learning_rates: Tensor,
    *others: object,
) -> Tensor:
    return torch.empty_like(learning_rates, device=weight.device)


@torch.library.register_fake("fsc_ext::solve_relu_")
def _(
    weight: Tensor,
    state: list[Tensor],
    mask: Tensor | None,
    input: Tensor,
    target: Tensor,
    bias: Tensor | None,
    shortcut: Tensor | None,
    image_weight: Tensor | None,
    learning_rates: Tensor,
    *others: object,
) -> Tensor:
    return torch.empty_like(learning_rates, device=weight.device)
