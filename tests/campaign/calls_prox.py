"""Calls of the proximal operators, the hard projections and the quantizers."""

from __future__ import annotations

import math

import torch
from bounded import WrongError, epsilon, is_extreme, require, require_equal
from calls import Arguments, Call
from drawing import Draw
from torch import Tensor

from fsc_ext import reference
from fsc_ext.testing import EMULATED

_NAN = ("must not contain NaN",)


def others_of(tensor: Tensor, dim: int) -> list[int]:
    """All dimensions but one."""
    return [d for d in range(tensor.dim()) if d != dim % tensor.dim()]


def over(tensor: Tensor, others: list[int]) -> Tensor:
    """Sums that keep their dimensions; none of an empty list."""
    return tensor.sum(others, keepdim=True) if others else tensor


def shape_of(draw: Draw, least: int = 1) -> list[int]:
    """Of a weight: four dimensions mostly, and seldom many elements."""
    if draw.chance(0.03):
        # A row a channel takes the emulator minutes for so many of them.
        single = 4000 if EMULATED else 40000
        return draw.choice([[64, 33, 3, 3], [single], [3, 9000], [2000, 5, 3]])
    rank = draw.choices(range(least, 6), [10 if rank == 4 else 2 for rank in range(least, 6)])[0]
    return [draw.size() for _ in range(rank)]


def threshold_of(draw: Draw) -> float:
    """Often none, seldom more than anything."""
    return draw.choice([0.0, draw.random(), draw.random(), 3 * draw.random(), 1e30, 1e-30])


# ---- soft thresholds ----


def prox_l1(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: Tensor) -> None:
        require("the result", result, *shrunk(before["input"], before["threshold"]))

    arguments = {
        "input": draw.tensor(*shape_of(draw, 0), dtype=draw.dtype()),
        "threshold": threshold_of(draw),
    }
    return Call("prox_l1", arguments, check, (), ("input",), _prox_l1_gradients)


def prox_l1_(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: Tensor) -> None:
        require("input", after["input"], *shrunk(before["input"], before["threshold"]))

    arguments = {
        "input": draw.tensor(*shape_of(draw, 0), dtype=draw.dtype(), dense=True),
        "threshold": threshold_of(draw),
    }
    return Call("prox_l1_", arguments, check, ("input",))


def shrunk(values: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """The soft threshold, and how far its rounding goes."""
    wide = values.double()
    return reference.prox_l1(wide, threshold), epsilon(values.dtype) * (wide.abs() + threshold)


def _prox_l1_gradients(before: Arguments, grads: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    values, threshold = before["input"].double(), before["threshold"]
    near = (values.abs() - threshold).abs() <= 2 * epsilon(before["input"].dtype) * threshold
    wide = grads[0].double()
    return [(torch.where(values.abs() > threshold, wide, 0), torch.where(near, wide.abs(), 0))]


# ---- block soft thresholds ----


def prox_group_l2(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: Tensor) -> None:
        require("the result", result, *shrunk_groups(before))

    arguments = _group_arguments(draw, dense=False)
    return Call("prox_group_l2", arguments, check, (), ("weight",), _prox_group_gradients)


def prox_group_l2_(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: Tensor) -> None:
        require("weight", after["weight"], *shrunk_groups(before))

    return Call("prox_group_l2_", _group_arguments(draw, dense=True), check, ("weight",))


def foreach_prox_group_l2_(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: None) -> None:
        for i, weight in enumerate(before["weights"]):
            each = before["thresholds"]
            threshold = each[i] if isinstance(each, list) else each
            one = {"weight": weight, "threshold": threshold, "dim": before["dim"]}
            require(f"weights[{i}]", after["weights"][i], *shrunk_groups(one))

    dtype, count = draw.dtype(), draw.randint(0, 3)
    arguments = {
        "weights": [draw.tensor(*shape_of(draw), dtype=dtype, dense=True) for _ in range(count)],
        "thresholds": [threshold_of(draw) for _ in range(count)],
        "dim": draw.choice([0, -1]),
    }
    if draw.chance(0.3):
        arguments["thresholds"] = threshold_of(draw)
    return Call("foreach_prox_group_l2_", arguments, check, ("weights",))


def _group_arguments(draw: Draw, dense: bool) -> Arguments:
    shape = shape_of(draw)
    return {
        "weight": draw.tensor(*shape, dtype=draw.dtype(), dense=dense),
        "threshold": threshold_of(draw),
        "dim": draw.randrange(-len(shape), len(shape)),
    }


def shrunk_groups(before: Arguments) -> tuple[Tensor, Tensor]:
    """The block soft threshold, and how far its rounding goes."""
    weight, threshold, dim = before["weight"], before["threshold"], before["dim"]
    wide = weight.double()
    found = reference.prox_group_l2(wide, threshold, dim)
    norm = over(wide.square(), others_of(wide, dim)).sqrt()
    # The norm is one of float64, and what is cut off is never more than the weight.
    rounding = (
        1e-16 * (wide.numel() + 4) * wide.abs() * (threshold / norm).nan_to_num(0).clamp(0, 1)
    )
    return found, 2 * epsilon(weight.dtype) * found.abs() + rounding


def _prox_group_gradients(before: Arguments, grads: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    weight, threshold, dim = before["weight"], before["threshold"], before["dim"]
    wide, grad = weight.double(), grads[0].double()
    others = others_of(wide, dim)
    norm = over(wide.square(), others).sqrt()
    alive = norm > threshold
    safe = torch.where(alive, norm, 1)
    along = threshold / safe**3 * wide
    found = (1 - threshold / safe) * grad + along * over(wide * grad, others)
    error = grad.abs() + along.abs() * over((wide * grad).abs(), others)
    tie = (norm - threshold).abs() <= 1e-13 * norm
    scale = torch.where(tie, 2.0, 4 * epsilon(weight.dtype) + 1e-15 * wide.numel())
    return [(torch.where(alive, found, 0), scale * error)]


# ---- hard projections ----


def keep_topk_(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, mask: Tensor) -> None:
        weight = _comparable(before["weight"])
        kept, expected = reference.keep_topk(weight, before["count"])
        kept = torch.where(expected, before["weight"], 0)
        require_equal("the mask", mask, expected)
        require_equal("weight", after["weight"], kept)

    weight = draw.tensor(*shape_of(draw, 0), dtype=draw.dtype(), dense=True)
    arguments = {"weight": weight, "count": draw.randint(0, weight.numel())}
    return Call("keep_topk_", arguments, check, ("weight",), refusals=_NAN)


def keep_topk_groups_(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, mask: Tensor) -> None:
        weight, count, dim = before["weight"], before["count"], before["dim"]
        squares = group_squares(_comparable(weight), dim)
        require_largest("the mask", mask, squares, count)
        if (squares == squares.round()).all() and (squares < 2**40).all():  # sums without rounding
            require_equal("the mask", mask, reference.keep_topk(squares, count)[1])
        shape = [-1 if d == dim % weight.dim() else 1 for d in range(weight.dim())]
        require_equal("weight", after["weight"], torch.where(mask.view(shape), weight, 0))

    shape = shape_of(draw, 2)
    dim = draw.randrange(-len(shape), len(shape))
    arguments = {
        "weight": draw.tensor(*shape, dtype=draw.dtype(), dense=True),
        "count": draw.randint(0, shape[dim]),
        "dim": dim,
    }
    return Call("keep_topk_groups_", arguments, check, ("weight",), refusals=_NAN)


def _comparable(weight: Tensor) -> Tensor:
    """What is compared: on a GPU NaN, which is not looked for there, counts as infinity."""
    return weight.nan_to_num(math.inf, math.inf, -math.inf) if EMULATED else weight


def group_squares(weight: Tensor, dim: int) -> Tensor:
    """Squared norms of the slices, float64 [weight.shape[dim]]."""
    return over(weight.double().square(), others_of(weight, dim)).flatten()


def require_largest(what: str, mask: Tensor, squares: Tensor, count: int) -> None:
    """Marks as many as asked for, none of which is clearly smaller than one that is not marked."""
    if mask.shape != squares.shape or int(mask.sum()) != count:
        raise WrongError(f"{what} {list(mask.shape)} marks {int(mask.sum())} for {count}")
    if 0 < count < len(squares) and squares[mask].min() < squares[~mask].max() * (1 - 1e-12):
        raise WrongError(
            f"{what} marks {squares[mask].min().item()} and not {squares[~mask].max().item()}"
        )


# ---- quantizers ----


def quantize_weight(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: Tensor) -> None:
        require("the result", result, *quantized(before), lax=is_extreme(before["weight"]))

    arguments = _quantize_arguments(draw)
    return Call("quantize_weight", arguments, check, (), ("weight",), _quantize_gradients)


def prox_quantize(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: Tensor) -> None:
        weight, strength = before["weight"].double(), before["strength"]
        nearest, error = quantized(before)
        share = strength / (1 + strength)
        value = (1 - share) * weight + share * nearest
        rounding = 2 * epsilon(result.dtype) * (value.abs() + 1e-16 * weight.abs())
        lax = is_extreme(before["weight"])
        require("the result", result, value, share * error + rounding, lax=lax)

    arguments = {**_quantize_arguments(draw), "strength": threshold_of(draw)}
    return Call("prox_quantize", arguments, check)


def _quantize_arguments(draw: Draw) -> Arguments:
    return {
        "weight": draw.tensor(*shape_of(draw), dtype=draw.dtype()),
        "bits": draw.randint(1, 8),
        "per_channel": draw.chance(0.6),
    }


def _range_of(before: Arguments) -> tuple[Tensor, Tensor, Tensor]:
    """Rows in float64 and the ends of their ranges, [rows, 1]."""
    weight = before["weight"]
    rows = weight.reshape(len(weight) if before["per_channel"] else 1, -1).double()
    mean = rows.mean(1, keepdim=True)
    reach = 3 * (rows - mean).square().mean(1, keepdim=True).sqrt()
    low = torch.maximum(rows.amin(1, keepdim=True), mean - reach)
    return rows, low, torch.minimum(rows.amax(1, keepdim=True), mean + reach)


def quantized(before: Arguments) -> tuple[Tensor, Tensor]:
    """The projection, and how far rounding leads: a whole step where two values are as near."""
    weight = before["weight"]
    if weight.numel() == 0:
        return weight.double(), torch.zeros(weight.shape, dtype=torch.float64)
    rows, low, high = _range_of(before)
    value = reference.quantize_weight(rows, before["bits"])
    step = (high - low) / (2 ** before["bits"] - 1)
    slack = 1e-15 * (rows.shape[1] + 8) * rows.abs().amax(1, keepdim=True)
    place = (rows.clamp(low, high) - low) / step
    between = (place - place.floor() - 0.5).abs() * step <= 2 * slack
    error = slack + epsilon(weight.dtype) * value.abs() + torch.where(between, step, 0)
    return value.view(weight.shape), error.view(weight.shape)


def _quantize_gradients(before: Arguments, grads: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
    weight, grad = before["weight"], grads[0].double()
    if weight.numel() == 0:
        return [(grad, torch.zeros_like(grad))]
    rows, low, high = _range_of(before)
    inside = ((rows >= low) & (rows <= high)).view(weight.shape)
    # The ends themselves are rounded to the dtype.
    slack = 2 * epsilon(weight.dtype) * rows.abs().amax(1, keepdim=True)
    near = ((rows - low).abs() <= slack) | ((rows - high).abs() <= slack)
    error = torch.where(near.view(weight.shape), grad.abs(), 0)
    return [(torch.where(inside, grad, 0), error)]


CALLS = [
    prox_l1, prox_l1_, prox_group_l2, prox_group_l2_, foreach_prox_group_l2_, keep_topk_,
    keep_topk_groups_, quantize_weight, prox_quantize,
]  # fmt: skip
