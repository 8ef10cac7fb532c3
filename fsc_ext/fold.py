"""Folding on weights: BatchNorm, of one layer or of many, into the convolution before it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fsc_ext._arguments import (
    listed_tensors,
    refuse_gradients,
    require_empty,
    require_tensors,
)

_ops = torch.ops.fsc_ext


def fuse_conv_bn(
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    bn_weight: Tensor | None,
    bn_bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    r"""The weight and bias of a convolution that does what convolution and BatchNorm did.

    .. math::
        W'_c = W_c \frac{\gamma_c}{\sqrt{\sigma^2_c + \epsilon}} \qquad
        b'_c = (b_c - \mu_c) \frac{\gamma_c}{\sqrt{\sigma^2_c + \epsilon}} + \beta_c

    BatchNorm in evaluation mode (Ioffe and Szegedy, 2015, Algorithm 2). Each channel is computed
    in float64 and rounded once. Any number of groups; linear layers too.

    Args:
        weight: [C_out, ...] of rank at least 2, float32 or float64.
        bias: [C_out], or None for zero.
        running_mean: [C_out], a constant: no gradient flows into it.
        running_var: [C_out], a constant; `running_var + eps` must be positive.
        bn_weight: [C_out], or None for one.
        bn_bias: [C_out], or None for zero.
        eps: finite and at least 0, the `eps` of the BatchNorm layer.

    Returns:
        The weight (in the shape of `weight`, channels-last where that is) and the bias [C_out];
        differentiable in `weight`, `bias`, `bn_weight` and `bn_bias`.

    Raises:
        ValueError: the tensors are on different devices.
        RuntimeError: a shape or dtype does not match that of `weight`, `eps` is negative or not
            finite, `running_var + eps` is not positive in a channel, or a running statistic
            requires a gradient.

    Example:
        >>> one = torch.ones(1)
        >>> fuse_conv_bn(torch.ones(1, 1), None, one, 4 * one, one, 3 * one, 0.0)
        (tensor([[0.5000]]), tensor([2.5000]))
    """
    require_tensors(
        "fuse_conv_bn",
        ("bias", "bn_weight", "bn_bias"),
        weight=weight,
        bias=bias,
        running_mean=running_mean,
        running_var=running_var,
        bn_weight=bn_weight,
        bn_bias=bn_bias,
    )
    for name, statistic in (("running_mean", running_mean), ("running_var", running_var)):
        if torch.is_grad_enabled() and statistic.requires_grad:
            raise RuntimeError(
                f"fuse_conv_bn: {name} must not require a gradient, because the running "
                f"statistics are constants; pass {name}.detach()"
            )
    return _ops.fuse_conv_bn(weight, bias, running_mean, running_var, bn_weight, bn_bias, eps)


def foreach_fuse_conv_bn(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    running_means: Sequence[Tensor],
    running_vars: Sequence[Tensor],
    bn_weights: Sequence[Tensor | None],
    bn_biases: Sequence[Tensor | None],
    eps: float | Sequence[float],
) -> tuple[list[Tensor], list[Tensor]]:
    r"""`fuse_conv_bn` on all layers of lists, without gradients.

    .. math::
        W'_{ic} = W_{ic} \frac{\gamma_{ic}}{\sqrt{\sigma^2_{ic} + \epsilon_i}} \qquad
        b'_{ic} = (b_{ic} - \mu_{ic}) \frac{\gamma_{ic}}{\sqrt{\sigma^2_{ic} + \epsilon_i}}
            + \beta_{ic}

    BatchNorm in evaluation mode (Ioffe and Szegedy, 2015, Algorithm 2) for a whole network, with
    the bits of `fuse_conv_bn`; on CUDA devices one launch for up to 40 layers. An empty list is
    no error.

    Args:
        weights: [C_out, ...] of rank at least 2, all of one dtype, float32 or float64.
        biases: one for each weight: [C_out], or None for zero.
        running_means: one for each weight: [C_out].
        running_vars: likewise; `running_vars[i] + eps[i]` must be positive.
        bn_weights: one for each weight: [C_out], or None for one.
        bn_biases: one for each weight: [C_out], or None for zero.
        eps: finite and at least 0, one for all layers or one for each.

    Returns:
        The weights (in the shapes of `weights`, channels-last where those are) and the biases
        [C_out].

    Raises:
        ValueError: the tensors are on different devices.
        RuntimeError: the lists are not of one length, a shape or dtype does not match, an `eps` is
            negative or not finite, `running_vars[i] + eps[i]` is not positive in a channel, or a
            tensor requires a gradient.

    Example:
        >>> one = torch.ones(1)
        >>> lists = [torch.ones(1, 1)], [None], [one], [4 * one], [one], [3 * one]
        >>> foreach_fuse_conv_bn(*lists, 0.0)
        ([tensor([[0.5000]])], [tensor([2.5000])])
    """
    lists = listed_tensors(
        "foreach_fuse_conv_bn",
        ("biases", "bn_weights", "bn_biases"),
        weights=weights,
        biases=biases,
        running_means=running_means,
        running_vars=running_vars,
        bn_weights=bn_weights,
        bn_biases=bn_biases,
    )
    refuse_gradients("foreach_fuse_conv_bn", "fuse_conv_bn", **lists)
    each = [eps] * len(lists["weights"]) if isinstance(eps, int | float) else eps
    if not any(tensor is not None for tensors in lists.values() for tensor in tensors):
        require_empty("foreach_fuse_conv_bn", "tensors", **lists)
        require_empty("foreach_fuse_conv_bn", "numbers", eps=each)
        return [], []  # without any tensor the dispatcher finds no device
    return _ops.foreach_fuse_conv_bn(*lists.values(), each)


def layout_by_channels(weight: Tensor) -> torch.memory_format:
    """The layout of what is folded into a weight: channels-last where the weight is that."""
    channels_last = (
        weight.dim() == 4
        and not weight.is_contiguous()
        and weight.is_contiguous(memory_format=torch.channels_last)
    )
    return torch.channels_last if channels_last else torch.contiguous_format


@torch.library.register_fake("fsc_ext::fuse_conv_bn")
def _fake_fuse_conv_bn(weight: Tensor, *others: object) -> tuple[Tensor, Tensor]:
    fused = torch.empty_like(weight, memory_format=layout_by_channels(weight))
    return fused, weight.new_empty(weight.shape[0])


@torch.library.register_fake("fsc_ext::foreach_fuse_conv_bn")
def _(weights: list[Tensor], *others: object) -> tuple[list[Tensor], list[Tensor]]:
    layers = [_fake_fuse_conv_bn(weight) for weight in weights]
    return [weight for weight, _ in layers], [bias for _, bias in layers]


def _setup_fuse_conv_bn(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    weight, bias, running_mean, running_var, bn_weight, _, ctx.eps = inputs
    ctx.save_for_backward(weight, bias, running_mean, running_var, bn_weight)


def _fuse_conv_bn_backward(
    ctx: Any, grad_weight: Tensor, grad_bias: Tensor
) -> tuple[Tensor | None, ...]:
    # With r = 1 / sqrt(var + eps): W' = W gamma r and b' = (b - mean) gamma r + beta.
    weight, bias, running_mean, running_var, bn_weight = ctx.saved_tensors
    inverse = (running_var.double() + ctx.eps).rsqrt()  # [C_out]
    scale = inverse if bn_weight is None else bn_weight.double() * inverse
    wide_weight, wide_bias = grad_weight.double(), grad_bias.double()
    to_weight = to_bias = to_gain = to_shift = None
    if ctx.needs_input_grad[0]:
        to_weight = wide_weight * scale.view(-1, *[1] * (weight.dim() - 1))
    if ctx.needs_input_grad[1]:
        to_bias = wide_bias * scale
    if ctx.needs_input_grad[4]:
        centred = -running_mean.double() if bias is None else bias.double() - running_mean.double()
        filters = (wide_weight * weight.double()).flatten(1).sum(1)
        to_gain = (filters + wide_bias * centred) * inverse
    if ctx.needs_input_grad[5]:
        to_shift = wide_bias
    grads = (to_weight, to_bias, None, None, to_gain, to_shift)
    return *(None if grad is None else grad.to(weight.dtype) for grad in grads), None


torch.library.register_autograd(
    "fsc_ext::fuse_conv_bn", _fuse_conv_bn_backward, setup_context=_setup_fuse_conv_bn
)
