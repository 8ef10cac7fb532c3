"""Gram matrices of the columns that a convolution sees: the moments of a layer."""

import torch
from torch import Tensor

from fsc_ext._arguments import refuse_gradient, require_tensors

_ops = torch.ops.fsc_ext


def gram_accumulate_(
    gram_student: Tensor | None,
    gram_cross: Tensor | None,
    gram_teacher: Tensor | None,
    student: Tensor | None,
    teacher: Tensor | None,
    *,
    kernel_size: int | tuple[int, int] = 1,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    channels_student: Tensor | None = None,
    channels_teacher: Tensor | None = None,
) -> None:
    r"""Adds the Gram matrices of a layer's inputs to running sums, in place.

    With :math:`U = \operatorname{im2col}(x)` of shape [C * kH * kW, N * H_out * W_out], the rows
    in the order of `torch.nn.functional.unfold` and so of `weight.flatten(1)`:

    .. math::
        G_{SS} \mathrel{+}= U_S U_S^\top \qquad
        G_{TS} \mathrel{+}= U_T U_S^\top \qquad
        G_{TT} \mathrel{+}= U_T U_T^\top

    Any least-squares objective of the layer is a function of these three: Cross Distillation (Bai
    et al., 2020), Eq. 1 to 8 without the activation, and the pointwise regression of Few Sample
    Knowledge Distillation (Li et al., 2020), Eq. 1 with `kernel_size` 1.

    Append a row of ones where a bias is solved: Gram matrices one larger than the features,
    [D + 1, D + 1] instead of [D, D], mean that U has a last row of ones.

    The columns are never all there at once: they are built and multiplied in panels of bounded
    width, or, float32 inputs of many channels and a window of stride 1 on the CPU, not at all, as
    two taps share their product with every pair that is as far apart. Products are in the dtype of
    the inputs, the sums over panels in the dtype of the Gram matrices. The order of the sums is
    fixed: the same inputs give the same bits, for any number of threads as far as the matrix
    product of PyTorch does (MKL may divide a product in another way).

    Args:
        gram_student: G_SS, [D_S, D_S] with D_S = C_S * kH * kW, or one larger each; float32 or
            float64, at least as wide as the inputs. It must be symmetric: the lower triangle is
            summed, and copied to the upper one. None: not wanted.
        gram_cross: G_TS, [D_T, D_S], or one larger each. None: not wanted.
        gram_teacher: G_TT, [D_T, D_T], symmetric, or one larger each. None: not wanted.
        student: [N, C_S, H, W], or [N, C_S] for a linear layer; float32 or float64. None where
            neither `gram_student` nor `gram_cross` is wanted.
        teacher: [N, C_T, H, W] or [N, C_T]; for `gram_cross` with the N, H, W and dtype of
            `student`. None where neither `gram_teacher` nor `gram_cross` is wanted.
        kernel_size: kH and kW, as of the convolution; so are the next three.
        stride: at least 1.
        padding: at least 0, with zeros.
        dilation: at least 1.
        channels_student: the channels of `student` that U_S has, in this order, int64 [R]; C_S is
            then R. The same sums as with `student[:, channels_student]`, without that copy. None:
            all of them. On a GPU a channel that `student` has not is one of zeros, because to look
            for it would wait for the device.
        channels_teacher: of `teacher`, likewise.

    Raises:
        ValueError: the tensors are on different devices.
        RuntimeError: a shape or dtype does not fit, a channel is not there, no Gram matrix is
            given, or a tensor requires a gradient while gradients are recorded.

    Example:
        >>> gram = torch.zeros(2, 2, dtype=torch.float64)
        >>> gram_accumulate_(gram, None, None, torch.tensor([[1.0, 2.0], [0.0, 1.0]]), None)
        >>> gram
        tensor([[1., 2.],
                [2., 5.]], dtype=torch.float64)
    """
    tensors = {
        "gram_student": gram_student,
        "gram_cross": gram_cross,
        "gram_teacher": gram_teacher,
        "student": student,
        "teacher": teacher,
    }
    chosen = {"channels_student": channels_student, "channels_teacher": channels_teacher}
    require_tensors("gram_accumulate_", (*tensors, *chosen), **tensors, **chosen)
    if all(gram is None for gram in (gram_student, gram_cross, gram_teacher)):
        raise RuntimeError(
            "gram_accumulate_: gram_student, gram_cross or gram_teacher must be given, got none"
        )
    for name, tensor in tensors.items():
        refuse_gradient("gram_accumulate_", name, tensor, "a sum in place")
    window = kernel_size, stride, padding, dilation
    _ops.gram_accumulate_(*tensors.values(), *window, *chosen.values())


@torch.library.register_fake("fsc_ext::gram_accumulate_")
def _(
    gram_student: Tensor | None,
    gram_cross: Tensor | None,
    gram_teacher: Tensor | None,
    student: Tensor | None,
    teacher: Tensor | None,
    kernel_size: list[int],
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    channels_student: Tensor | None = None,
    channels_teacher: Tensor | None = None,
) -> None:
    return None
