"""Folding on weights: a 1x1 convolution, of one layer or of many, into the one before it."""

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
from fsc_ext.fold import layout_by_channels

_ops = torch.ops.fsc_ext


def absorb_conv1x1(
    weight: Tensor,
    bias: Tensor | None,
    pointwise_weight: Tensor,
    pointwise_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    r"""The weight and bias of one convolution that does what it and a 1x1 convolution after it did.

    .. math:: W' = Q W \qquad b' = Q b + b_Q

    Few Sample Knowledge Distillation (Li et al., 2020), Theorem 1, with the bias carried along.
    The product runs in the dtype of the weights, under autocast too; on CUDA devices in tiles on
    tensor cores with the precision of float32, the bias in float64. With groups the result is
    another layer: a convolution with groups must be written out as a dense one before.

    Args:
        weight: [C_out, C_in, ...] of rank at least 2, float32 or float64.
        bias: [C_out], or None for zero.
        pointwise_weight: Q, [C_new, C_out] or [C_new, C_out, 1, 1].
        pointwise_bias: [C_new], or None for zero.

    Returns:
        The weight [C_new, C_in, ...], channels-last where `weight` is that, and the bias [C_new],
        which is zero where both are None; differentiable in every argument.

    Raises:
        ValueError: the tensors are on different devices.
        RuntimeError: a shape or dtype does not match that of `weight`.

    Example:
        >>> absorb_conv1x1(torch.ones(2, 1), torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 3.0]]))
        (tensor([[4.]]), tensor([7.]))
    """
    require_tensors(
        "absorb_conv1x1",
        ("bias", "pointwise_bias"),
        weight=weight,
        bias=bias,
        pointwise_weight=pointwise_weight,
        pointwise_bias=pointwise_bias,
    )
    return _ops.absorb_conv1x1(weight, bias, pointwise_weight, pointwise_bias)


def foreach_absorb_conv1x1(
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    pointwise_weights: Sequence[Tensor],
    pointwise_biases: Sequence[Tensor | None] | None = None,
) -> tuple[list[Tensor], list[Tensor]]:
    r"""`absorb_conv1x1` on all layers of lists, without gradients.

    .. math:: W'_i = Q_i W_i \qquad b'_i = Q_i b_i + b_{Q_i}

    Few Sample Knowledge Distillation (Li et al., 2020), Theorem 1, for a whole network, with the
    bits of `absorb_conv1x1`; on CUDA devices one launch for up to 60 layers. An empty list is no
    error.

    Args:
        weights: [C_out, C_in, ...] of rank at least 2, all of one dtype, float32 or float64.
        biases: one for each weight: [C_out], or None for zero.
        pointwise_weights: one for each weight: Q, [C_new, C_out] or [C_new, C_out, 1, 1].
        pointwise_biases: one for each weight: [C_new], or None for zero; None where all are zero.

    Returns:
        The weights [C_new, C_in, ...], channels-last where those of `weights` are, and the biases
        [C_new].

    Raises:
        ValueError: the tensors are on different devices.
        RuntimeError: the lists are not of one length, a shape or dtype does not match, or a tensor
            requires a gradient.

    Example:
        >>> weights, biases = [torch.ones(2, 1)], [torch.tensor([1.0, 2.0])]
        >>> foreach_absorb_conv1x1(weights, biases, [torch.tensor([[1.0, 3.0]])])
        ([tensor([[4.]])], [tensor([7.])])
    """
    lists = listed_tensors(
        "foreach_absorb_conv1x1",
        ("biases", "pointwise_biases"),
        weights=weights,
        biases=biases,
        pointwise_weights=pointwise_weights,
        pointwise_biases=() if pointwise_biases is None else pointwise_biases,
    )
    if pointwise_biases is None:
        lists["pointwise_biases"] = [None] * len(lists["weights"])
    refuse_gradients("foreach_absorb_conv1x1", "absorb_conv1x1", **lists)
    if not any(tensor is not None for tensors in lists.values() for tensor in tensors):
        require_empty("foreach_absorb_conv1x1", "tensors", **lists)
        return [], []  # without any tensor the dispatcher finds no device
    return _ops.foreach_absorb_conv1x1(*lists.values())


@torch.library.register_fake("fsc_ext::absorb_conv1x1")
def _fake_absorb_conv1x1(
    weight: Tensor, bias: Tensor | None, pointwise_weight: Tensor, pointwise_bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    channels = pointwise_weight.shape[0]
    absorbed = torch.empty(
        (channels, *weight.shape[1:]),
        dtype=weight.dtype,
        device=weight.device,
        memory_format=layout_by_channels(weight),
    )
    return absorbed, weight.new_empty(channels)


@torch.library.register_fake("fsc_ext::foreach_absorb_conv1x1")
def _(
    weights: list[Tensor],
    biases: list[Tensor | None],
    pointwise_weights: list[Tensor],
    pointwise_biases: list[Tensor | None],
) -> tuple[list[Tensor], list[Tensor]]:
    lists = zip(weights, biases, pointwise_weights, pointwise_biases, strict=True)
    layers = [_fake_absorb_conv1x1(*layer) for layer in lists]
    return [weight for weight, _ in layers], [bias for _, bias in layers]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:3])


def _backward(ctx: Any, grad_weight: Tensor, grad_bias: Tensor) -> tuple[Tensor | None, ...]:
    # Q^T absorbs what came for W' and b'; to Q goes the product with W^T, and b beside it.
    weight, bias, pointwise_weight = ctx.saved_tensors
    to_weight = to_bias = to_matrix = None
    if ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
        transposed = pointwise_weight.flatten(1).t()  # [C_out, C_new]
        to_weight, to_bias = _ops.absorb_conv1x1(grad_weight, grad_bias, transposed, None)
    if ctx.needs_input_grad[2]:
        columns = weight.flatten(1).t()  # [C_in kH kW, C_out]
        to_matrix, _ = _ops.absorb_conv1x1(columns, None, grad_weight.flatten(1), None)
        if bias is not None:
            to_matrix = to_matrix + grad_bias[:, None] * bias
        to_matrix = to_matrix.view_as(pointwise_weight)
    grads = (to_weight, to_bias, to_matrix, grad_bias)
    return tuple(
        grad if needed else None for grad, needed in zip(grads, ctx.needs_input_grad, strict=True)
    )


torch.library.register_autograd("fsc_ext::absorb_conv1x1", _backward, setup_context=_setup)
