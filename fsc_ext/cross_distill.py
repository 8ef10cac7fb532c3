"""Cross distillation: the soft cross mixture, the residual epilogue and the layer loss of both."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fsc_ext._arguments import require_tensors

_ops = torch.ops.fsc_ext


def soft_cross_mix(
    input_teacher: Tensor, input_student: Tensor, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    r"""Convex combinations of the inputs that one layer has in the teacher and in the student.

    .. math::
        x_T = \alpha h_T + (1 - \alpha) h_S \qquad x_S = (1 - \beta) h_T + \beta h_S

    Cross Distillation (Bai et al., 2020), Eq. 7; :math:`h_T` and :math:`h_S` are the two inputs.
    Both mixtures are written in one pass over the inputs.

    Args:
        input_teacher: any shape, float32 or float64.
        input_student: the shape and dtype of `input_teacher`.
        alpha: the teacher's share of the first mixture, in [0, 1].
        beta: the student's share of the second mixture, in [0, 1].

    Returns:
        The teacher's and the student's mixed input, both in the shape and memory format of
        `input_student`; differentiable in both inputs.

    Raises:
        ValueError: the inputs are on different devices.
        RuntimeError: the inputs differ in shape or dtype, the dtype is not floating point, or
            `alpha` or `beta` is outside [0, 1].

    Example:
        >>> soft_cross_mix(torch.tensor([1.0]), torch.tensor([3.0]), alpha=0.75, beta=0.5)
        (tensor([1.5000]), tensor([2.]))
    """
    require_tensors("soft_cross_mix", input_teacher=input_teacher, input_student=input_student)
    return _ops.soft_cross_mix(input_teacher, input_student, alpha, beta)


def distill_residual(
    preactivation: Tensor, target: Tensor, activation: str = "relu"
) -> tuple[Tensor, Tensor]:
    r"""Squared distance of an activated tensor to its target, and the residual, in one pass.

    .. math::
        \text{loss} = \sum (\sigma(S) - T)^2 \qquad R = \sigma'(S) \, (\sigma(S) - T)

    The norm of Cross Distillation (Bai et al., 2020), Eq. 8, and half its gradient; :math:`S` is
    `preactivation`, :math:`T` is `target`, which is already activated. The slope of ReLU is 0 where
    `preactivation` is 0. The loss is summed in float64, in an order that depends on the memory
    format alone: the same bits for any number of threads.

    Args:
        preactivation: any shape, float32 or float64.
        target: the shape and dtype of `preactivation`; a constant.
        activation: "relu" or "none".

    Returns:
        The loss, [] in the dtype of `preactivation`, differentiable in `preactivation`; and the
        residual, in the shape and memory format of `preactivation`, which has no gradient.

    Raises:
        ValueError: the tensors are on different devices.
        RuntimeError: the tensors differ in shape or dtype, the dtype is not floating point,
            `activation` is unknown, or `target` requires a gradient.

    Example:
        >>> distill_residual(torch.tensor([2.0, -1.0]), torch.tensor([1.0, 3.0]))
        (tensor(10.), tensor([1., 0.]))
    """
    require_tensors("distill_residual", preactivation=preactivation, target=target)
    if torch.is_grad_enabled() and target.requires_grad:
        raise RuntimeError(
            "distill_residual: target must not require a gradient, because it is a constant of the "
            "loss; pass target.detach()"
        )
    return _ops.distill_residual(preactivation, target, activation)


def cross_distill_layer(
    input_teacher: Tensor,
    input_student: Tensor,
    weight_teacher: Tensor,
    weight_student: Tensor,
    bias_teacher: Tensor | None = None,
    bias_student: Tensor | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    activation: str = "relu",
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    r"""Cross distillation loss of one convolution of the student against the teacher's.

    .. math::
        L = \frac{1}{N} \| \sigma(W_T * x_T + b_T) - \sigma(W_S * x_S + b_S) \|_F^2

    with :math:`x_T = \alpha h_T + (1 - \alpha) h_S` and :math:`x_S = (1 - \beta) h_T + \beta h_S`:
    Cross Distillation (Bai et al., 2020), Eq. 7 and 8. The corners of (alpha, beta) are its other
    losses: (1, 1) estimation, Eq. 1; (1, 0) correction, Eq. 2; (0, 1) imitation, Eq. 3. The paper
    takes ReLU, with BatchNorm folded into weight and bias; the code released with it takes none.

    The teacher is a constant: no gradient flows to `input_teacher`, `weight_teacher` or
    `bias_teacher`, whether or not they require one. The loss is summed in float64 in an order that
    does not depend on the number of threads. Its gradient cannot be differentiated again. On CUDA
    devices cuDNN convolves where there are groups, and where it is faster in the precision that
    `torch.backends.cudnn.allow_tf32` allows, which is often where that is TF32 (docs/gpu.md).

    In float32 on the CPU 3x3 filters of stride 1 go through Winograd's transforms. A gradient of
    the weight below 1e-6 of the norms of its channel and its filter's residual is 0 there: no more
    than rounding. Where torch has more than twice as many threads as the work is divided among,
    its own convolution takes their place, with other bits; one and two threads give the same.

    Args:
        input_teacher: the layer's input in the teacher, [N, C_in, H, W], float32 or float64.
        input_student: the layer's input in the student, of the same shape and dtype.
        weight_teacher: [C_out, C_in / groups, kH, kW].
        weight_student: [C_out, C_in / groups, kH, kW]; the output must have the teacher's shape.
        bias_teacher: [C_out] or None.
        bias_student: [C_out] or None.
        alpha: the teacher's share of the teacher's input, in [0, 1]; no copy is made at 0 and 1.
        beta: the student's share of the student's input, in [0, 1]; no copy is made at 0 and 1.
        activation: "relu" or "none".
        stride: pixels, an int or a pair (height, width), at least 1.
        padding: pixels of zeros on each side, an int or a pair, at least 0.
        dilation: pixels between kernel elements, an int or a pair, at least 1.
        groups: divides C_in and C_out.

    Returns:
        The loss, [], in the dtype of the inputs, per image; 0 for an empty batch. Differentiable in
        `weight_student`, `bias_student` and `input_student`.

    Raises:
        ValueError: the tensors are on different devices.
        RuntimeError: an argument has the wrong rank, shape or dtype, `groups` does not divide the
            channels, the two outputs differ in shape, `alpha` or `beta` is outside [0, 1],
            `activation` is unknown, or `stride`, `padding` or `dilation` is too small.

    Example:
        >>> x = torch.ones(1, 2, 3, 3)
        >>> teacher, student = torch.ones(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)
        >>> cross_distill_layer(x, x, teacher, student, alpha=0.9, beta=0.3)
        tensor(36.)
    """
    tensors = {
        "input_teacher": input_teacher,
        "input_student": input_student,
        "weight_teacher": weight_teacher,
        "weight_student": weight_student,
        "bias_teacher": bias_teacher,
        "bias_student": bias_student,
    }
    require_tensors("cross_distill_layer", ("bias_teacher", "bias_student"), **tensors)
    loss, _ = _ops.cross_distill_layer(
        *tensors.values(), alpha, beta, activation, stride, padding, dilation, groups
    )
    return loss


@torch.library.register_fake("fsc_ext::soft_cross_mix")
def _(
    input_teacher: Tensor, input_student: Tensor, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    return torch.empty_like(input_student), torch.empty_like(input_student)


@torch.library.register_fake("fsc_ext::distill_residual")
def _(preactivation: Tensor, target: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    return preactivation.new_empty(()), torch.empty_like(preactivation)


@torch.library.register_fake("fsc_ext::cross_distill_layer")
def _(
    input_teacher: Tensor,
    input_student: Tensor,
    weight_teacher: Tensor,
    weight_student: Tensor,
    bias_teacher: Tensor | None,
    bias_student: Tensor | None,
    *settings: Any,
) -> tuple[Tensor, Tensor]:
    # Convolved for its shape and memory format alone.
    stride, padding, dilation, groups = settings[3:]
    residual = torch.nn.functional.conv2d(
        input_student, weight_student, bias_student, stride, padding, dilation, groups
    )
    return residual.new_empty(()), residual


@torch.library.register_fake("fsc_ext::cross_distill_layer_backward")
def _(
    grad_loss: Tensor,
    residual: Tensor,
    input_teacher: Tensor,
    input_student: Tensor,
    weight_teacher: Tensor,
    weight_student: Tensor,
    *arguments: Any,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    with_input, with_weight, with_bias = arguments[-1]
    return (
        torch.empty_like(input_student) if with_input else None,
        torch.empty_like(weight_student) if with_weight else None,
        weight_student.new_empty(weight_student.shape[0]) if with_bias else None,
    )
