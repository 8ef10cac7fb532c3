"""Calls of the optimisers' steps, on one tensor and on lists."""

from __future__ import annotations

import math
from typing import Any

import torch
from bounded import epsilon, is_extreme, require, require_equal
from calls import Arguments, Call
from calls_prox import group_squares, others_of, over, require_largest, shape_of
from drawing import Draw
from torch import Tensor

from fsc_ext import reference

PENALTIES = ("none", "l1", "group_l2", "topk", "topk_groups", "soft_topk", "soft_topk_groups")
HARD = ("topk", "topk_groups")

Bounded = tuple[Tensor, Tensor]  # values in float64, and how far rounding may lead away from them


# ---- arguments ----


def penalty_of(draw: Draw, weight: Tensor) -> Arguments:
    """A penalty with an amount and a dimension that fit to the weight, and a mask where needed."""
    penalty = draw.choice(PENALTIES)
    dim = draw.randrange(-weight.dim(), weight.dim())
    most = weight.shape[dim] if penalty.endswith("groups") else weight.numel()
    amount = draw.choice([0.0, draw.random(), 0.01])
    if "topk" in penalty:
        amount = float(draw.randint(0, most))
    mask = draw.mask(*weight.shape) if penalty in HARD else None
    return {"penalty": penalty, "amount": amount, "dim": dim, "mask": mask}


def rate_of(draw: Draw) -> float:
    """A learning rate."""
    return draw.choice([0.0, 0.1, draw.random(), 1e-4, 30.0])


def optimizer_of(draw: Draw, adam: bool) -> Arguments:
    """What an optimiser is told."""
    if not adam:
        return {"momentum": draw.choice([0.0, 0.9, draw.random()])}
    betas = (draw.choice([0.0, 0.9, draw.random()]), draw.choice([0.0, 0.999, 0.9999, 0.5]))
    return {"betas": betas, "eps": draw.choice([1e-8, 1e-8, 0.0, 1.0])}


def _state_like(draw: Draw, weight: Tensor, positive: bool = False) -> Tensor:
    one = draw.positive if positive else draw.tensor
    return one(*weight.shape, dtype=weight.dtype, dense=True)


def adam_prox_(draw: Draw) -> Call:
    weight = draw.tensor(*shape_of(draw), dtype=draw.dtype(), dense=True)
    arguments = {
        "weight": weight,
        "grad": draw.tensor(*weight.shape, dtype=weight.dtype),
        "exp_avg": _state_like(draw, weight),
        "exp_avg_sq": _state_like(draw, weight, positive=True),
        "step": draw.choice([1, 2, 10, 100000, 2**40]),
        "lr": rate_of(draw),
        **optimizer_of(draw, adam=True),
        **penalty_of(draw, weight),
    }
    return Call("adam_prox_", arguments, check_step, ("weight", "exp_avg", "exp_avg_sq", "mask"))


def sgd_prox_(draw: Draw) -> Call:
    weight = draw.tensor(*shape_of(draw), dtype=draw.dtype(), dense=True)
    settings = optimizer_of(draw, adam=False)
    arguments = {
        "weight": weight,
        "grad": draw.tensor(*weight.shape, dtype=weight.dtype),
        "momentum_buffer": _state_like(draw, weight) if settings["momentum"] else None,
        "lr": rate_of(draw),
        **settings,
        **penalty_of(draw, weight),
    }
    return Call("sgd_prox_", arguments, check_step, ("weight", "momentum_buffer", "mask"))


_LISTS = {
    "weights": "weight", "grads": "grad", "exp_avgs": "exp_avg", "exp_avg_sqs": "exp_avg_sq",
    "momentum_buffers": "momentum_buffer", "masks": "mask", "amounts": "amount",
}  # fmt: skip


def foreach_adam_prox_(draw: Draw) -> Call:
    return _listed(draw, "foreach_adam_prox_", adam_prox_)


def foreach_sgd_prox_(draw: Draw) -> Call:
    return _listed(draw, "foreach_sgd_prox_", sgd_prox_)


def _listed(draw: Draw, name: str, one_of: Any) -> Call:
    """Calls of one tensor, those of one dtype and penalty with it, as one of lists."""
    first = one_of(draw)
    tensors = [first.arguments]
    same = ("penalty", "momentum", "betas", "eps", "lr", "step", "dim")
    for _ in range(draw.randint(0, 12)):
        other = one_of(draw).arguments
        keys = [key for key in ("penalty", "momentum") if key in other]
        alike = all(bool(other[k]) == bool(tensors[0][k]) for k in keys)
        if alike and other["penalty"] == tensors[0]["penalty"]:
            if other["weight"].dtype == tensors[0]["weight"].dtype:
                tensors.append({**other, **{key: tensors[0][key] for key in same if key in other}})
    arguments = {key: tensors[0][key] for key in same if key in tensors[0]}
    arguments["dim"] = 0
    for many, single in _LISTS.items():
        if single in tensors[0]:
            parts = [one[single] for one in tensors]
            arguments[many] = parts if parts[0] is not None else None
    if "topk" in arguments["penalty"]:
        groups = arguments["penalty"].endswith("groups")
        sizes = [len(w) if groups else w.numel() for w in arguments["weights"]]
        pairs = zip(arguments["amounts"], sizes, strict=True)
        arguments["amounts"] = [min(amount, float(size)) for amount, size in pairs]
    changes = tuple(many for many, single in _LISTS.items() if single in first.changes)
    return Call(name, arguments, _check_each, changes)


def _check_each(before: Arguments, after: Arguments, result: None) -> None:
    for i in range(len(before["weights"])):
        parts = []
        for arguments in (before, after):
            one = {key: value for key, value in arguments.items() if key not in _LISTS}
            for many, single in _LISTS.items():
                if many in arguments:
                    one[single] = arguments[many][i] if arguments[many] else None
            parts.append(one)
        if parts[0].get("amount") is None:
            parts[0]["amount"] = 0.0
        check_step(*parts, result, f"[{i}]")


# ---- what must come out ----


def check_step(
    before: Arguments, after: Arguments, result: None, at: str = "", grad_error: Any = 0.0
) -> None:
    """Compares one step with its formula in float64; `grad_error` is that of the gradient given."""
    mask, weight = before.get("mask"), before["weight"]
    moved, states = _moved(before, torch.as_tensor(grad_error, dtype=torch.float64))
    names = [n for n in ("exp_avg", "exp_avg_sq", "momentum_buffer") if before.get(n) is not None]
    if mask is None:
        _check_shrunk(f"weight{at}", before, after["weight"], *moved)
        for name, state in zip(names, states, strict=True):
            require(f"{name}{at}", after[name], *state)
        return
    if is_extreme(weight, before["grad"], *(before[name] for name in names)):
        return  # what has diverged has no order
    _check_kept(f"mask{at}", before, after, moved)
    kept = after["mask"]
    for name, state in zip(["weight", *names], [moved, *states], strict=True):
        value, error = (torch.where(kept, part, 0) for part in torch.broadcast_tensors(*state))
        require(f"{name}{at}", after[name], value, error)


def _moved(before: Arguments, grad_error: Tensor) -> tuple[Bounded, list[Bounded]]:
    """The weight and the optimiser's state behind the step, before the proximal operator."""
    weight, limit = before["weight"].double(), torch.finfo(before["weight"].dtype)
    mask = before.get("mask")
    grad = before["grad"].double() * (1 if mask is None else mask)
    unit, tiny, lr = limit.eps, 4 * limit.tiny, before["lr"]
    if "betas" not in before:
        states, step, error = [], grad, grad_error
        if before.get("momentum_buffer") is not None:
            old = before["momentum"] * before["momentum_buffer"].double()
            step = old + grad
            error = grad_error + 3 * unit * (old.abs() + grad.abs()) + tiny
            states = [(step, error)]
        rounding = 3 * unit * (weight.abs() + lr * step.abs())
        rounding = rounding + (tiny if lr < limit.max else math.inf)
        return (weight - lr * step, lr * error + rounding), states
    (decay, decay_square), number = before["betas"], before["step"]
    old, fresh = decay * before["exp_avg"].double(), (1 - decay) * grad
    average = old + fresh
    error = 4 * unit * (old.abs() + fresh.abs()) + (1 - decay) * grad_error + tiny
    kept, new = decay_square * before["exp_avg_sq"].double(), (1 - decay_square) * grad.square()
    square = kept + new
    spread = (1 - decay_square) * (2 * grad.abs() + grad_error) * grad_error
    square_error = 5 * unit * (kept.abs() + new) + spread + tiny
    # What leaves the range of the dtype leads anywhere.
    square_error = torch.where(square + grad.square() < limit.max / 4, square_error, math.inf)
    rate, root = lr / (1 - decay**number), math.sqrt(1 - decay_square**number)
    change, change_error = _quotient(
        rate, (average, error), (square, square_error), root, before["eps"], unit
    )
    # As torch.optim.Adam's the product may pass the range before it is divided: infinity is right.
    inside = rate * (average.abs() + error) < limit.max / 2
    change_error = torch.where(inside, change_error, change_error + unit * limit.max)
    if mask is not None:
        change = torch.where(mask, change, 0)
    rounding = unit * (weight.abs() + change.abs()) + (tiny if rate < limit.max else math.inf)
    return (weight - change, change_error + rounding), [(average, error), (square, square_error)]


def _quotient(
    rate: float, average: Bounded, square: Bounded, root: float, eps: float, unit: float
) -> Bounded:
    """rate average / (sqrt(square) / root + eps)."""
    high, low = (square[0] + square[1]).sqrt(), (square[0] - square[1]).clamp(min=0).sqrt()
    below = square[0].sqrt() / root + eps
    error = (high - low) / root + 4 * unit * below
    change = rate * average[0] / below
    least = below - error
    found = (rate * average[1] + change.abs() * error) / least + 5 * unit * change.abs()
    return change, torch.where(least > 0, found, math.inf)


def _check_shrunk(
    what: str, before: Arguments, found: Tensor, moved: Tensor, error: Tensor
) -> None:
    """The proximal operators that do not keep a count for good: none of them spreads an error."""
    penalty, dim = before["penalty"], before["dim"]
    error = error.expand_as(moved)
    if penalty == "none" or moved.numel() == 0:
        return require(what, found, moved, error)
    if "topk" in penalty and (not moved.isfinite().all() or not error.isfinite().all()):
        return None
    if penalty.startswith("soft_") and is_extreme(before["weight"], before["grad"]):
        return None
    value, _ = reference.proximal(moved, penalty, before["amount"], dim)
    unit = epsilon(found.dtype)
    rounding = 4 * unit * moved.abs() + 1e-15 * moved.numel() * moved.abs()
    if penalty == "l1":
        return require(what, found, value, error + rounding + unit * before["amount"])
    groups = over(error.square(), others_of(moved, dim)).sqrt()
    if penalty == "group_l2":
        return require(what, found, value, groups + rounding)
    reach = groups if penalty == "soft_topk_groups" else error
    return require(what, found, value, reach + reach.max() + rounding + unit * moved.abs().max())


def _check_kept(what: str, before: Arguments, after: Arguments, moved: Bounded) -> None:
    """The mask marks as many as asked for, and none that is clearly smaller than another."""
    mask, count, penalty = after["mask"], int(before["amount"]), before["penalty"]
    if mask.numel() == 0:
        return
    value, error = moved[0], moved[1].expand_as(moved[0])
    if not error.isfinite().all():
        return
    if penalty == "topk_groups":
        dim = before["dim"] % mask.dim()
        groups = mask.transpose(0, dim).reshape(mask.shape[dim], -1)
        require_equal(f"{what} of a group", groups, groups[:, :1].expand_as(groups).contiguous())
        size, spread = (group_squares(part, dim).sqrt() for part in (value, error))
        marked = groups[:, 0]
    else:
        size, spread, marked = value.abs().flatten(), error.flatten(), mask.flatten()
    # As they would be in the way that suits the mask best.
    best = (size + torch.where(marked, spread, -spread)).clamp(min=0)
    require_largest(what, marked, best.square(), count)


CALLS = [adam_prox_, sgd_prox_, foreach_adam_prox_, foreach_sgd_prox_]
