"""The operators in plain PyTorch: the specification that the compiled kernels are tested against.

Same names and signatures as the public functions, no speed tricks, and never a run-time fallback.
In-place operators appear here as functions that return the new value.
"""

from collections.abc import Callable

import torch
from torch import Tensor


def soft_cross_mix(
    input_teacher: Tensor, input_student: Tensor, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    """The two mixed inputs of a layer (Cross Distillation, Eq. 7)."""
    mixed_teacher = alpha * input_teacher + (1 - alpha) * input_student
    mixed_student = (1 - beta) * input_teacher + beta * input_student
    return mixed_teacher, mixed_student


def distill_residual(
    preactivation: Tensor, target: Tensor, activation: str = "relu"
) -> tuple[Tensor, Tensor]:
    """The summed squared distance to an activated target, and half its gradient."""
    difference = (preactivation.relu() if activation == "relu" else preactivation) - target
    loss = difference.double().square().sum().to(preactivation.dtype)
    residual = difference.detach()
    if activation == "relu":
        residual = torch.where(preactivation <= 0, 0, residual)
    return loss, residual


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
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """The loss of one convolution against the teacher's, per image (Cross Distillation, Eq. 8)."""
    mixed = soft_cross_mix(input_teacher.detach(), input_student, alpha, beta)
    weights = (weight_teacher.detach(), weight_student)
    biases = (bias_teacher.detach() if bias_teacher is not None else None, bias_student)
    output_teacher, output_student = (
        torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, groups)
        for x, weight, bias in zip(mixed, weights, biases, strict=True)
    )  # [N, C_out, H_out, W_out]
    if activation == "relu":
        output_teacher, output_student = output_teacher.relu(), output_student.relu()
    total = (output_teacher - output_student).double().square().sum()
    return (total / max(len(input_student), 1)).to(input_student.dtype)


def prox_l1(input: Tensor, threshold: float) -> Tensor:
    """Soft threshold, element by element (Cross Distillation, Eq. 10)."""
    return torch.nn.functional.softshrink(input, threshold)


def prox_group_l2(weight: Tensor, threshold: float, dim: int = 0) -> Tensor:
    """Block soft threshold of the slices along `dim` (Cross Distillation, Eq. 11)."""
    norm = _group_squares(weight, dim).sqrt()
    scale = torch.where(norm <= threshold, 0.0, 1.0 - threshold / norm)
    return scale.to(weight.dtype) * weight


def _group_squares(weight: Tensor, dim: int) -> Tensor:
    """Squared norms of the slices along `dim`; the other dimensions are kept, of size 1."""
    others = [d for d in range(weight.dim()) if d != dim % weight.dim()]
    squares = weight.double().square()
    return squares.sum(others, keepdim=True) if others else squares  # torch would sum all of them


def keep_topk(weight: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The weight with all but its `count` largest magnitudes set to zero, and the mask."""
    order = weight.abs().flatten().argsort(descending=True, stable=True)
    mask = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[:count]] = True
    mask = mask.view(weight.shape)
    return torch.where(mask, weight, 0), mask


def keep_topk_groups(weight: Tensor, count: int, dim: int = 1) -> tuple[Tensor, Tensor]:
    """The weight with all but its `count` largest slices along `dim` set to zero, and the mask."""
    norm = _group_squares(weight, dim).flatten()  # [weight.shape[dim]]
    mask = torch.zeros_like(norm, dtype=torch.bool)
    mask[norm.argsort(descending=True, stable=True)[:count]] = True
    shape = [-1 if d == dim % weight.dim() else 1 for d in range(weight.dim())]
    return torch.where(mask.view(shape), weight, 0), mask


def proximal(weight: Tensor, penalty: str, amount: float, dim: int) -> tuple[Tensor, Tensor | None]:
    """What follows a step under one of the penalties of `adam_prox_`: the weight, and the mask."""
    if penalty == "none":
        return weight, None
    if penalty == "l1":
        return prox_l1(weight, amount), None
    if penalty == "group_l2":
        return prox_group_l2(weight, amount, dim), None
    count = int(amount)
    if penalty == "topk":
        return keep_topk(weight, count)
    if penalty == "topk_groups":
        kept, groups = keep_topk_groups(weight, count, dim)
        shape = [-1 if d == dim % weight.dim() else 1 for d in range(weight.dim())]
        return kept, groups.view(shape).expand_as(weight)
    is_single = penalty == "soft_topk"
    measure = weight.abs() if is_single else _group_squares(weight, dim).sqrt()
    measure = measure.flatten()
    if count == measure.numel():
        return weight, None
    threshold = measure.sort(descending=True).values[count].item()
    shrunk = prox_l1(weight, threshold) if is_single else prox_group_l2(weight, threshold, dim)
    return shrunk, None


def minimise(
    weight: Tensor,
    loss: Callable[[Tensor, int], Tensor],
    learning_rates: Tensor,
    amounts: Tensor,
    *,
    optimizer: str = "adam",
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    momentum: float = 0.0,
    penalty: str = "none",
    dim: int = 1,
) -> tuple[Tensor, Tensor]:
    """Steps of `torch.optim` with autograd, each followed by `proximal`: weight and losses.

    `adam_prox_` and `sgd_prox_` are one step of a linear loss, `solve_quadratic_` and
    `solve_relu_` many steps of theirs; `loss` takes the weight and the number of the step, from 0.
    """
    parameter = weight.detach().clone().requires_grad_()
    steps: torch.optim.Optimizer = torch.optim.SGD([parameter], lr=1.0, momentum=momentum)
    if optimizer == "adam":
        steps = torch.optim.Adam([parameter], lr=1.0, betas=betas, eps=eps)
    mask, losses = None, []
    for number, (rate, amount) in enumerate(zip(learning_rates, amounts, strict=True)):
        value = loss(parameter, number)
        (gradient,) = torch.autograd.grad(value, parameter)
        losses.append(value.detach().double())
        parameter.grad = gradient if mask is None else gradient * mask
        steps.param_groups[0]["lr"] = rate.item()
        steps.step()
        projected, mask = proximal(parameter.detach().clone(), penalty, amount.item(), dim)
        parameter.data.copy_(projected)
        for state in steps.state[parameter].values():
            if mask is not None and isinstance(state, Tensor) and state.shape == weight.shape:
                state *= mask
    return parameter.detach(), torch.stack(losses) if losses else amounts.new_empty(0)


def quantize_weight(weight: Tensor, bits: int, *, per_channel: bool = True) -> Tensor:
    """The nearest of 2^bits values between the ends of the three-sigma range."""
    rows = weight.reshape(len(weight) if per_channel else 1, -1).double()
    reach = 3 * rows.std(1, correction=0, keepdim=True)
    low = torch.maximum(rows.amin(1, keepdim=True), rows.mean(1, keepdim=True) - reach)
    high = torch.minimum(rows.amax(1, keepdim=True), rows.mean(1, keepdim=True) + reach)
    step = (high - low) / (2**bits - 1)
    level = ((torch.clamp(rows, low, high) - low) / step).round()
    found = torch.where(level < 2**bits - 1, low + step * level, high)
    return torch.where(step > 0, found, low).to(weight.dtype).view(weight.shape)


def gram(
    rows: Tensor,
    columns: Tensor,
    *,
    kernel_size: int | tuple[int, int] = 1,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    ones: bool = False,
) -> Tensor:
    """U_rows U_columns^T in float64, one of the sums of `gram_accumulate_`; `ones` for a bias."""

    def unfolded(images: Tensor) -> Tensor:
        wide = images.double().view(*images.shape, *[1] * (4 - images.dim()))  # [N, C, H, W]
        found = torch.nn.functional.unfold(
            wide, kernel_size, dilation=dilation, padding=padding, stride=stride
        )
        found = found.transpose(0, 1).flatten(1)  # [C * kH * kW, N * H_out * W_out]
        return torch.cat([found, torch.ones_like(found[:1])]) if ones else found

    return unfolded(rows) @ unfolded(columns).T


def elimination_order(weight: Tensor, inverse: Tensor, removable: int) -> tuple[Tensor, Tensor]:
    """The order in which the weights of each row go, and what each removal cost."""
    orders, rises = [], []
    for row, matrix in zip(weight, inverse.expand(len(weight), -1, -1), strict=True):
        gone = torch.arange(len(row), device=row.device) >= removable
        row, matrix = row.clone(), matrix.clone()  # [dim], [dim, dim]
        for _ in range(removable):
            costs = (row.square() / matrix.diagonal()).masked_fill(gone, torch.inf)
            i = int(costs.argmin())
            orders.append(i)
            rises.append(costs[i])
            column, pivot = matrix[i].clone(), matrix[i, i].clone()
            row -= row[i] / pivot * column
            matrix -= torch.outer(column, column) / pivot
            gone[i] = True
            matrix[i, i] = 1
    shape = (len(weight), removable)
    costs = torch.stack(rises) if rises else weight.new_empty(0)
    order = torch.tensor(orders, dtype=torch.int64, device=weight.device)
    return order.view(shape), costs.view(shape)


def line_search_relu(
    output: Tensor, direction: Tensor, target: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The moved output, the steps, the losses and the residual of `line_search_relu_`."""

    def along(steps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, Newton's next step and the descent of every row, [C_out] each."""
        moved = output + steps[:, None] * direction
        difference, slant = moved.relu() - target, torch.where(moved > 0, direction, 0)
        slope, curvature = (difference * slant).sum(1), slant.square().sum(1)
        newton = steps - torch.where(curvature > 0, slope / curvature, 0)
        return difference.square().sum(1), newton, -slope

    zero = output.new_zeros(len(output))
    best, (lowest, first, descent) = zero, along(zero)
    first = torch.where(descent * first > torch.finfo(output.dtype).eps * lowest, first, 0)
    after_first, second, _ = along(first)
    candidates = [(first, after_first), (second, along(second)[0])]
    candidates += [(first / 2**k, along(first / 2**k)[0]) for k in range(1, 21)]
    for number, (steps, losses) in enumerate(candidates):
        better = (first > 0) & (steps > 0) & (losses < lowest) & ((number < 2) | (best == 0))
        best, lowest = torch.where(better, steps, best), torch.where(better, losses, lowest)
    moved = output + best[:, None] * direction
    residual = torch.where(moved > 0, moved - target, 0)
    return moved, best, lowest, residual


def fuse_conv_bn(
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    bn_weight: Tensor | None,
    bn_bias: Tensor | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """BatchNorm in evaluation mode written into the convolution before it, in float64."""
    one, zero = torch.ones_like(running_var), torch.zeros_like(running_var)
    gain = (one if bn_weight is None else bn_weight).double()
    shift = (zero if bn_bias is None else bn_bias).double()
    offset = (zero if bias is None else bias).double()
    scale = gain / (running_var.double() + eps).sqrt()  # [C_out]
    fused = weight.double() * scale.view(-1, *[1] * (weight.dim() - 1))
    fused_bias = (offset - running_mean.double()) * scale + shift
    return fused.to(weight.dtype), fused_bias.to(weight.dtype)


def absorb_conv1x1(
    weight: Tensor,
    bias: Tensor | None,
    pointwise_weight: Tensor,
    pointwise_bias: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """A 1x1 convolution written into the convolution before it (FSKD, Theorem 1)."""
    matrix = pointwise_weight.flatten(1)  # [C_new, C_out]
    absorbed = torch.einsum("no,o...->n...", matrix, weight)
    absorbed_bias = weight.new_zeros(matrix.shape[0]) if bias is None else matrix @ bias
    return absorbed, absorbed_bias if pointwise_bias is None else absorbed_bias + pointwise_bias
