"""The exact line search behind a ReLU, for solvers that move a layer's output along a direction."""

import torch
from torch import Tensor

from fsc_ext._arguments import refuse_gradient, require_tensors

_ops = torch.ops.fsc_ext


def line_search_relu_(
    output: Tensor, direction: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    r"""Moves each row of a layer's output along its direction, as far as the loss falls.

    .. math:: a_r \approx \arg\min_{a \ge 0} \| \operatorname{relu}(S_r + a Q_r) - T_r \|^2,
              \qquad S_r \leftarrow S_r + a_r Q_r

    Behind a ReLU the loss along a line is made of parabolas, and each output channel is a problem
    of its own (Cross Distillation, Bai et al., 2020, Eq. 1). Two Newton steps are tried on it;
    where neither descends, halves of the first. The loss of no row ever rises.

    Args:
        output: S, [C_out, R], contiguous, float32 or float64; changed in place.
        direction: Q, in the shape and dtype of `output`.
        target: T, in the shape and dtype of `output`, already activated.

    Returns:
        The steps a, [C_out] in the dtype of `output`, 0 where the direction does not descend; the
        losses after them, [C_out] float64; and the residual 1[S > 0] (S - T), [C_out, R].

    Raises:
        RuntimeError: the tensors differ in shape or dtype, `output` is not a contiguous matrix, the
            dtype is not floating point, or a tensor requires a gradient.
        ValueError: the tensors are on different devices.

    Example:
        >>> output = torch.tensor([[1.0, -1.0]])
        >>> steps, losses, residual = line_search_relu_(
        ...     output, torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 0.0]])
        ... )
        >>> steps, output
        (tensor([2.]), tensor([[ 3., -1.]]))
    """
    require_tensors("line_search_relu_", output=output, direction=direction, target=target)
    for name, tensor in (("output", output), ("direction", direction), ("target", target)):
        refuse_gradient("line_search_relu_", name, tensor, "a search in place")
    return _ops.line_search_relu_(output, direction, target)


@torch.library.register_fake("fsc_ext::line_search_relu_")
def _(output: Tensor, direction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    rows = output.shape[0]
    return (
        output.new_empty(rows),
        output.new_empty(rows, dtype=torch.float64),
        torch.empty_like(output),
    )
