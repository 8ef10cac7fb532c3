"""Proximal operators and hard projections: what makes weights sparse."""

from typing import Any

import torch
from torch import Tensor

from fsc_ext._arguments import refuse_gradient, require_tensor

_ops = torch.ops.fsc_ext


def require_writable(op: str, name: str, tensor: Tensor) -> None:
    """What every projection in place asks of its tensors.

    Raises:
        TypeError: it is no tensor.
        RuntimeError: the tensor is sparse, or requires a gradient where gradients are recorded.
    """
    require_tensor(op, name, tensor)
    refuse_gradient(op, name, tensor, "an in-place projection")


def prox_l1(input: Tensor, threshold: float) -> Tensor:
    r"""Soft threshold: the proximal operator of the L1 norm.

    .. math:: \operatorname{prox}(x) = \operatorname{sign}(x) \max(|x| - \lambda, 0)

    Cross Distillation (Bai et al., 2020), Eq. 10; lambda is `threshold`.

    Args:
        input: any shape, float32 or float64.
        threshold: finite and at least 0, in the units of `input`.

    Returns:
        A tensor of the shape of `input`; differentiable in `input` (0 where the result is 0).

    Raises:
        RuntimeError: `threshold` is negative or not finite, or the dtype is not floating point.

    Example:
        >>> prox_l1(torch.tensor([3.0, -0.5, -2.0]), 1.0)
        tensor([ 2.,  0., -1.])
    """
    require_tensor("prox_l1", "input", input)
    return _ops.prox_l1(input, threshold)


def prox_l1_(input: Tensor, threshold: float) -> Tensor:
    """In-place version of `prox_l1`; returns `input`.

    Raises:
        RuntimeError: as `prox_l1`, or `input` requires a gradient.
    """
    require_writable("prox_l1_", "input", input)
    _ops.prox_l1_(input, threshold)
    return input


def prox_group_l2(weight: Tensor, threshold: float, dim: int = 0) -> Tensor:
    r"""Block soft threshold: the proximal operator of the sum of group norms.

    .. math:: \operatorname{prox}(W_g) = \max(1 - \lambda / \|W_g\|_2, 0) \, W_g

    Cross Distillation (Bai et al., 2020), Eq. 11; the groups are the slices of `weight` along
    `dim`: 0 for output filters, 1 for input channels. Norms are summed in float64.

    Args:
        weight: [C_out, C_in, kH, kW] or any tensor of rank at least 1, float32 or float64.
        threshold: finite and at least 0, in the units of a group's norm.
        dim: the dimension that numbers the groups.

    Returns:
        A tensor of the shape of `weight`; differentiable in `weight`.

    Raises:
        RuntimeError: `threshold` is negative or not finite, `dim` is out of range, or the dtype is
            not floating point.

    Example:
        >>> prox_group_l2(torch.tensor([[3.0, 4.0], [0.3, 0.4]]), 1.0)
        tensor([[2.4000, 3.2000],
                [0.0000, 0.0000]])
    """
    require_tensor("prox_group_l2", "weight", weight)
    return _ops.prox_group_l2(weight, threshold, dim)


def prox_group_l2_(weight: Tensor, threshold: float, dim: int = 0) -> Tensor:
    """In-place version of `prox_group_l2`; returns `weight`.

    Raises:
        RuntimeError: as `prox_group_l2`, or `weight` requires a gradient.
    """
    require_writable("prox_group_l2_", "weight", weight)
    _ops.prox_group_l2_(weight, threshold, dim)
    return weight


def keep_topk_(weight: Tensor, count: int) -> Tensor:
    """Sets all but the `count` largest magnitudes of `weight` to zero, in place.

    The hard projection of unstructured pruning, without shrinkage; of equal magnitudes the first
    in row-major order are kept.

    Args:
        weight: any shape, float32 or float64, without NaN: on a GPU it is not looked for, which
            would wait for the device, and counts as infinity.
        count: how many elements stay, in [0, weight.numel()].

    Returns:
        The mask, bool, of the shape of `weight`: True where an element stayed.

    Raises:
        RuntimeError: `count` is out of range, `weight` contains NaN or requires a gradient.

    Example:
        >>> keep_topk_(torch.tensor([1.0, -3.0, 2.0]), 2)
        tensor([False,  True,  True])
    """
    require_writable("keep_topk_", "weight", weight)
    return _ops.keep_topk_(weight, count)


def keep_topk_groups_(weight: Tensor, count: int, dim: int = 1) -> Tensor:
    """Sets all but the `count` slices of largest norm along `dim` to zero, in place.

    The hard projection of structured pruning: `dim` 1 keeps input channels, 0 output filters; of
    equal norms the first are kept.

    Args:
        weight: [C_out, C_in, kH, kW] or any tensor with dimension `dim`, float32 or float64,
            without NaN, as for `keep_topk_`.
        count: how many groups stay, in [0, weight.shape[dim]].
        dim: the dimension that numbers the groups.

    Returns:
        The mask, bool, [weight.shape[dim]]: True where a group stayed.

    Raises:
        RuntimeError: `count` or `dim` is out of range, `weight` contains NaN or requires a
            gradient.

    Example:
        >>> keep_topk_groups_(torch.tensor([[1.0, 2.0], [1.0, 2.0]]), 1)
        tensor([False,  True])
    """
    require_writable("keep_topk_groups_", "weight", weight)
    return _ops.keep_topk_groups_(weight, count, dim)


@torch.library.register_fake("fsc_ext::prox_l1")
def _(input: Tensor, threshold: float) -> Tensor:
    return torch.empty_like(input)


@torch.library.register_fake("fsc_ext::prox_group_l2")
def _(weight: Tensor, threshold: float, dim: int) -> Tensor:
    return torch.empty_like(weight, memory_format=torch.contiguous_format)


@torch.library.register_fake("fsc_ext::prox_l1_")
def _(input: Tensor, threshold: float) -> None:
    return None


@torch.library.register_fake("fsc_ext::prox_group_l2_")
def _(weight: Tensor, threshold: float, dim: int) -> None:
    return None


@torch.library.register_fake("fsc_ext::keep_topk_")
def _(weight: Tensor, count: int) -> Tensor:
    return torch.empty(weight.shape, dtype=torch.bool, device=weight.device)


@torch.library.register_fake("fsc_ext::keep_topk_groups_")
def _(weight: Tensor, count: int, dim: int) -> Tensor:
    return torch.empty(weight.shape[dim], dtype=torch.bool, device=weight.device)


def _setup_prox_l1(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(output)


def _prox_l1_backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None]:
    (output,) = ctx.saved_tensors
    return torch.where(output != 0, grad_output, 0), None


torch.library.register_autograd("fsc_ext::prox_l1", _prox_l1_backward, setup_context=_setup_prox_l1)


def _setup_prox_group_l2(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    weight, ctx.threshold, ctx.dim = inputs
    ctx.save_for_backward(weight)


def _prox_group_l2_backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
    # With n = |W_g|: d(1 - t/n) W_g = (1 - t/n) dW_g + (t/n^3) <W_g, dW_g> W_g where n > t.
    (weight,) = ctx.saved_tensors
    others = [d for d in range(weight.dim()) if d != ctx.dim % weight.dim()]
    wide, grad = weight.double(), grad_output.double()
    square = _group_sum(wide * wide, others)
    dead = square.sqrt() <= ctx.threshold
    # A stand-in for the norm of a dead group: zero would make the second derivative NaN.
    norm = torch.where(dead, 1, square).sqrt()
    inner = _group_sum(wide * grad, others)
    grad_weight = (1 - ctx.threshold / norm) * grad + ctx.threshold / norm**3 * inner * wide
    return torch.where(dead, 0, grad_weight).to(weight.dtype), None, None


def _group_sum(values: Tensor, others: list[int]) -> Tensor:
    """Sum over `others`, kept as size 1; an empty list sums nothing (torch would sum all)."""
    return values.sum(others, keepdim=True) if others else values


torch.library.register_autograd(
    "fsc_ext::prox_group_l2", _prox_group_l2_backward, setup_context=_setup_prox_group_l2
)
