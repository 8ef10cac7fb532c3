"""Weights on a few evenly spaced values, and the proximal operator that pulls towards them."""

from typing import Any

import torch
from torch import Tensor

from fsc_ext._arguments import refuse_gradient, require_tensor

_ops = torch.ops.fsc_ext


def quantize_weight(weight: Tensor, bits: int, *, per_channel: bool = True) -> Tensor:
    r"""Projects a weight on 2^bits evenly spaced values.

    .. math:: Q(W) = l + \frac{u - l}{2^B - 1}
              \operatorname{round}\Bigl( (2^B - 1) \frac{\min(\max(W, l), u) - l}{u - l} \Bigr)

    l and u are the smallest and the largest value within three standard deviations of the mean.
    Cross Distillation (Bai et al., 2020), appendix, "Quantization": truncation by the three-sigma
    rule, linear normalisation g to [0, 1], projection. The paper prints the points as
    {0, ±1/(2B-1), ..., ±1}; the 2^B points of [0, 1] go with the g it prints.

    The gradient is that of the straight-through estimator (Bengio et al., 2013): 1 in [l, u], 0
    outside.

    Args:
        weight: [C_out, C_in, kH, kW] or any shape, float32 or float64.
        bits: B, 1 to 8.
        per_channel: one range for each output channel, as BatchNorm behind the layer allows at no
            cost; False: one for the whole tensor.

    Returns:
        Q(W), of the shape of `weight`.

    Raises:
        RuntimeError: `bits` is out of its range, or the dtype is not floating point.

    Example:
        >>> quantize_weight(torch.tensor([[0.0, 0.2, 0.6, 0.9]]), 2)
        tensor([[0.0000, 0.3000, 0.6000, 0.9000]])
    """
    require_tensor("quantize_weight", "weight", weight)
    return _ops.quantize_weight(weight, bits, per_channel)


def prox_quantize(
    weight: Tensor, bits: int, strength: float, *, per_channel: bool = True
) -> Tensor:
    r"""Pulls a weight towards its projection: the proximal operator of ProxQuant.

    .. math:: \operatorname{prox}(W) = \frac{W + \lambda Q(W)}{1 + \lambda}

    of lambda / 2 times the squared distance to the nearest quantized weight (Bai, Wang and
    Liberty, 2019), which the appendix of Cross Distillation takes over. Q is `quantize_weight`.

    Args:
        weight: any shape, float32 or float64.
        bits: 1 to 8.
        strength: lambda, finite and at least 0.
        per_channel: as in `quantize_weight`.

    Returns:
        A tensor of the shape of `weight`, without gradient.

    Raises:
        RuntimeError: an argument is out of its range, or `weight` requires a gradient.

    Example:
        >>> prox_quantize(torch.tensor([[0.0, 0.2, 0.6, 0.9]]), 2, 1.0)
        tensor([[0.0000, 0.2500, 0.6000, 0.9000]])
    """
    require_tensor("prox_quantize", "weight", weight)
    refuse_gradient("prox_quantize", "weight", weight, "a proximal step")
    return _ops.prox_quantize(weight, bits, strength, per_channel)


@torch.library.register_fake("fsc_ext::quantize_weight")
def _(weight: Tensor, bits: int, per_channel: bool) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


@torch.library.register_fake("fsc_ext::prox_quantize")
def _(weight: Tensor, bits: int, strength: float, per_channel: bool) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.per_channel = inputs[2]
    ctx.save_for_backward(inputs[0], output)


def _backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
    weight, output = ctx.saved_tensors
    if weight.numel() == 0:
        return grad_output, None, None
    rows = output.flatten(1) if ctx.per_channel and output.dim() > 1 else output.reshape(1, -1)
    shape = [len(rows)] + [1] * (weight.dim() - 1) if len(rows) > 1 else [1] * weight.dim()
    # The ends of the range are values of the grid that some weight lies on or beyond.
    low, high = rows.amin(1).view(shape), rows.amax(1).view(shape)
    return torch.where((weight >= low) & (weight <= high), grad_output, 0), None, None


torch.library.register_autograd("fsc_ext::quantize_weight", _backward, setup_context=_setup)
