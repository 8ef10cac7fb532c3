"""Calls of cross distillation, of the line search and of the elimination."""

from __future__ import annotations

import torch
from bounded import WrongError, epsilon, is_extreme, require, require_equal
from calls import Arguments, Call
from calls_prox import shape_of
from convolutions import (
    Bounded,
    convolved,
    geometry_of,
    geometry_of_settings,
    input_gradient,
    residual,
    squared_sum,
    tile_sizes,
    weight_gradient,
)
from drawing import Draw
from torch import Tensor

from fsc_ext import reference
from fsc_ext.testing import EMULATED


def share_of(draw: Draw) -> float:
    """One of the corners often."""
    return draw.choice([0.0, 1.0, 0.5, draw.random()])


# ---- passes over memory ----


def soft_cross_mix(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: tuple[Tensor, Tensor]) -> None:
        unit = epsilon(before["input_student"].dtype)
        for name, found, (value, size) in zip(
            ("mixed_teacher", "mixed_student"), result, _mixed(before), strict=True
        ):
            require(name, found, value, 3 * unit * size)

    shape, dtype = shape_of(draw, 0), draw.dtype()
    arguments = {
        "input_teacher": draw.tensor(*shape, dtype=dtype),
        "input_student": draw.tensor(*shape, dtype=dtype),
        "alpha": share_of(draw),
        "beta": share_of(draw),
    }
    names = ("input_teacher", "input_student")
    return Call("soft_cross_mix", arguments, check, (), names, _mix_gradients)


def _mixed(before: Arguments) -> list[Bounded]:
    """The mixtures, and the sums of the magnitudes in them."""
    tensors = before["input_teacher"].double(), before["input_student"].double()
    sizes = [tensor.abs() for tensor in tensors]
    shares = before["alpha"], before["beta"]
    pairs = zip(
        reference.soft_cross_mix(*tensors, *shares),
        reference.soft_cross_mix(*sizes, *shares),
        strict=True,
    )
    return list(pairs)


def _mix_gradients(before: Arguments, grads: list[Tensor]) -> list[Bounded]:
    alpha, beta = before["alpha"], before["beta"]
    unit = 4 * epsilon(grads[0].dtype)
    to_teacher, to_student = (grad.double() for grad in grads)
    found = []
    for a, b in ((alpha, 1 - beta), (1 - alpha, beta)):
        size = a * to_teacher.abs() + b * to_student.abs()
        found.append((a * to_teacher + b * to_student, unit * size))
    return found


def distill_residual(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: tuple[Tensor, Tensor]) -> None:
        difference, slanted = _residual(before)
        value, error = squared_sum(difference)
        require("the loss", result[0], value, error + 2 * epsilon(result[0].dtype) * value.abs())
        require("the residual", result[1], *slanted)

    shape, dtype = shape_of(draw, 0), draw.dtype()
    arguments = {
        "preactivation": draw.tensor(*shape, dtype=dtype),
        "target": draw.tensor(*shape, dtype=dtype),
        "activation": draw.choice(["relu", "none"]),
    }
    names = ("preactivation",)
    return Call("distill_residual", arguments, check, (), names, _residual_gradients)


def _residual(before: Arguments) -> tuple[Bounded, Bounded]:
    s, t = before["preactivation"].double(), before["target"].double()
    rounding = epsilon(before["target"].dtype) * (s.abs() + t.abs())
    found = residual((s, torch.zeros_like(s)), (t, rounding), before["activation"] == "relu")
    if before["activation"] == "relu":
        # Here the sign is known, and what is NaN stays that.
        value = torch.where(s <= 0, 0, s.relu() - t)
        found = found[0], (value, rounding)
    return found


def _residual_gradients(before: Arguments, grads: list[Tensor]) -> list[Bounded]:
    value, error = _stored(_residual(before)[1], before["target"].dtype)
    grad = 2 * grads[0].double()
    rounding = 3 * epsilon(grads[0].dtype) * value.abs()
    return [(grad * value, grad.abs() * (error + rounding))]


# ---- a layer ----


def cross_distill_layer(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, loss: Tensor) -> None:
        value, error = squared_sum(_outputs(before)[0])
        count = max(1, len(before["input_student"]))
        error = error + 2 * epsilon(loss.dtype) * value.abs()
        tensors = (before[name] for name in _TENSORS)
        require("the loss", loss, value / count, error / count, lax=is_extreme(*tensors))

    arguments = _layer_arguments(draw)
    names = ("input_student", "weight_student", "bias_student")
    refusals = ("must hold at least one value",)
    return Call("cross_distill_layer", arguments, check, (), names, _layer_gradients, refusals)


_TENSORS = (
    "input_teacher", "input_student", "weight_teacher", "weight_student", "bias_teacher",
    "bias_student",
)  # fmt: skip


def _layer_arguments(draw: Draw) -> Arguments:
    dtype, moves = draw.dtype(), geometry_of(draw)
    groups = draw.choices([1, 2], [4, 1])[0]
    channels, filters, images = draw.size(4), draw.size(4), draw.size(4)
    if draw.chance(0.15):
        channels, filters, images = draw.randint(16, 20), draw.randint(1, 20), draw.randint(1, 3)
    image = [least + draw.choice([0, 1, 3, 6]) for least in moves.least()]

    def perhaps() -> Tensor | None:
        return draw.tensor(groups * filters, dtype=dtype) if draw.chance(0.5) else None

    def weight() -> Tensor:
        return draw.tensor(groups * filters, channels, *moves.kernel, dtype=dtype)

    def images_of() -> Tensor:
        return draw.tensor(images, groups * channels, *image, dtype=dtype)

    return {
        "input_teacher": images_of(), "input_student": images_of(), "weight_teacher": weight(),
        "weight_student": weight(), "bias_teacher": perhaps(), "bias_student": perhaps(),
        "alpha": share_of(draw), "beta": share_of(draw),
        "activation": draw.choice(["relu", "none"]), "groups": groups, **moves.settings,
    }  # fmt: skip


def _outputs(before: Arguments) -> tuple[Bounded, Bounded, Bounded]:
    """act(S) - act(T); the residual of the student; and that of the teacher, exchanged."""
    moves = geometry_of_settings(before, before["weight_student"])
    dtype, relu = before["weight_student"].dtype, before["activation"] == "relu"
    sides = []
    for (x, size), side in zip(_mixed(before), ("teacher", "student"), strict=True):
        weight, bias = before[f"weight_{side}"], before[f"bias_{side}"]
        value, sizes = convolved(x, weight, bias, moves)
        _, mixing = convolved(size, weight, bias, moves)
        tiles = tile_sizes(size, weight, moves) if dtype != torch.float64 else 0.0
        sides.append((value, epsilon(dtype) * (sizes + mixing + tiles)))
    (t, t_error), (s, s_error) = sides
    goals = [(v.relu() if relu else v, e) for v, e in sides]
    difference, slanted = residual((s, s_error), goals[0], relu)
    _, exchanged = residual((t, t_error), goals[1], relu)
    return difference, slanted, exchanged


def _stored(values: Bounded, dtype: torch.dtype) -> Bounded:
    """What is kept in the dtype of the layer on the way to a gradient: residuals, then products.

    What leaves its range there is infinite in the end, and NaN by a factor of zero.
    """
    value, error = values
    if not EMULATED:
        return values
    inside = value.abs() + error < torch.finfo(dtype).max
    return value, torch.where(inside, error, torch.inf)


def _layer_gradients(before: Arguments, grads: list[Tensor]) -> list[Bounded | None]:
    moves = geometry_of_settings(before, before["weight_student"])
    x, weight = before["input_student"], before["weight_student"]
    dtype, scale = weight.dtype, 2 * grads[0].double() / max(1, len(x))
    slanted, exchanged = (_stored(each, dtype) for each in _outputs(before)[1:])
    student = _mixed(before)[1][0]
    to_weight = weight_gradient(student, slanted, weight.shape, moves, dtype)
    through = [
        _stored(input_gradient(side, residuals, x.shape, moves, dtype), dtype)
        for side, residuals in ((weight, slanted), (before["weight_teacher"], exchanged))
    ]
    shares = before["beta"], 1 - before["alpha"]
    to_input = tuple(
        sum(a * part[i] for a, part in zip(shares, through, strict=True)) for i in (0, 1)
    )
    axes = (0, 2, 3)
    count = slanted[0].numel() / max(1, len(weight)) + 4
    rounding = epsilon(dtype) * count * slanted[0].abs().sum(axes)
    to_bias = slanted[0].sum(axes), slanted[1].sum(axes) + rounding
    unit = 6 * epsilon(dtype)
    stored = [_stored(each, dtype) for each in (to_input, to_weight, to_bias)]
    return [(scale * value, scale.abs() * (error + unit * value.abs())) for value, error in stored]


# ---- problems of rows ----


def line_search_relu_(draw: Draw) -> Call:
    shape = (draw.size(), draw.choice([draw.size(), draw.size(60), 1100]))
    dtype = draw.dtype()
    output = draw.tensor(*shape, dtype=dtype, dense=True)
    arguments = {
        "output": output if draw.chance(0.05) else output.contiguous(),
        "direction": draw.tensor(*shape, dtype=dtype),
        "target": draw.positive(*shape, dtype=dtype),
    }
    refusals = ("output must be contiguous",)
    return Call("line_search_relu_", arguments, _check_search, ("output",), refusals=refusals)


def _check_search(before: Arguments, after: Arguments, result: tuple[Tensor, ...]) -> None:
    """Whatever steps were taken: what they lead to, and that it is as low as the reference."""
    steps, losses, found = result
    output, direction, target = before["output"], before["direction"], before["target"]
    unit = epsilon(output.dtype)
    wide = steps.double()[:, None]
    moved = output.double() + wide * direction.double()
    size = output.double().abs() + (wide * direction.double()).abs()
    require("output", after["output"], moved, 3 * unit * size)
    now = after["output"].double()
    slanted = torch.where(now <= 0, 0, now - target.double())
    require("the residual", found, slanted, 2 * unit * (now.abs() + target.double().abs()))
    if is_extreme(output, direction, target):
        return
    if not (steps >= 0).all():
        raise WrongError(f"the steps are {steps.tolist()}")
    (difference, error), _ = residual(
        (moved, 3 * unit * size), (target.double(), unit * target.double().abs()), True
    )
    loss = difference.square().sum(1)
    spread = (2 * difference.abs() * error + error.square()).sum(1) + 70 * unit * loss
    require("the losses", losses, loss, spread)
    _, _, lowest, _ = reference.line_search_relu(
        output.double(), direction.double(), target.double()
    )
    start = (output.double().relu() - target.double()).square().sum(1)
    # In float32 the reference itself may stop short of another bend.
    short = reference.line_search_relu(output, direction.contiguous(), target.contiguous())[2]
    lowest = torch.maximum(lowest, short.double())
    slack = spread + 200 * unit * start + 1e-3 * (start - lowest)
    if not (losses <= lowest + slack).all():
        raise WrongError(f"the losses are {losses.tolist()}, the reference's {lowest.tolist()}")


def elimination_order(draw: Draw) -> Call:
    rows, dim = draw.size(), draw.choice([draw.size(), draw.size(20)])
    draw.extreme = False  # what is not positive definite has no order
    inverse = draw.spd(draw.choice([1, rows]), dim)
    arguments = {
        "weight": draw.tensor(rows, dim, dtype=torch.float64),
        "inverse": draw.laid_out(inverse, dense=True),
        "removable": draw.randint(0, dim),
    }
    return Call("elimination_order", arguments, _check_order)


def _check_order(before: Arguments, after: Arguments, result: tuple[Tensor, Tensor]) -> None:
    order, rises = result
    expected, costs = reference.elimination_order(
        before["weight"], before["inverse"], before["removable"]
    )
    if order.shape != expected.shape:
        raise WrongError(f"the order is {list(order.shape)} for {list(expected.shape)}")
    if torch.linalg.cholesky_ex(before["inverse"]).info.any():
        return  # what shared memory has made of it has no order
    require_equal("what goes", order.sort(1).values, expected.sort(1).values)
    scale = 1e-9 * (1 + before["weight"].abs().amax().square()) if order.numel() else 0.0
    # From where two cost the same the orders may part.
    same = (order == expected).cumprod(1).bool() if order.numel() else order.bool()
    first = torch.cat([torch.ones_like(same[:, :1]), same[:, :-1]], 1)
    require("the rises", torch.where(first, rises, costs), costs, scale + 1e-9 * costs.abs())


CALLS = [
    soft_cross_mix, distill_residual, cross_distill_layer, line_search_relu_, elimination_order,
]  # fmt: skip
