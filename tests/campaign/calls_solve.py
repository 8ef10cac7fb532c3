"""Calls of the loops that must not return to Python: every step of them against its formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from bounded import epsilon, is_extreme, require, require_equal
from calls import Arguments, Call, copied
from calls_step import HARD, check_step, optimizer_of, penalty_of, rate_of
from convolutions import (
    LEAST_RESIDUAL,
    Bounded,
    convolved,
    geometry_of,
    geometry_of_settings,
    residual,
    squared_sum,
    tile_sizes,
    weight_gradient,
)
from drawing import Draw
from torch import Tensor

import fsc_ext

_REFUSALS = ("must be contiguous", "must hold at least one")


def solve_quadratic_(draw: Draw) -> Call:
    dtype = draw.dtype()
    shape = draw.choice([[draw.size(), draw.size()], [draw.size() for _ in range(4)]])
    if draw.chance(0.03):
        shape = [40, 70]
    weight = _plain(draw, draw.values(shape, dtype))
    columns = math.prod(shape[1:])
    half = draw.values((columns, columns + 2), torch.float64)
    arguments = {
        "weight": weight,
        "hessian": draw.laid_out((half @ half.mT).to(dtype) / (columns + 2)),
        "target": draw.tensor(shape[0], columns, dtype=dtype),
        "scale": draw.choice([1.0, 0.25, 0.0]),
        **_loop_of(draw, weight),
    }
    return _solved("solve_quadratic_", arguments, _quadratic)


def solve_relu_(draw: Draw) -> Call:
    dtype, moves = draw.dtype(), geometry_of(draw)
    channels, filters, images = draw.size(5), draw.size(5), draw.size(4)
    if draw.chance(0.15):
        channels, filters, images = draw.randint(8, 20), draw.randint(1, 20), draw.randint(1, 3)
    image = [least + draw.choice([0, 1, 3, 6]) for least in moves.least()]
    weight = _plain(draw, draw.values((filters, channels, *moves.kernel), dtype))
    output = (images, filters, *moves.outputs(image))

    def perhaps(*shape: int) -> Tensor | None:
        return draw.tensor(*shape, dtype=dtype) if draw.chance(0.3) else None

    arguments = {
        "weight": weight,
        "input": draw.tensor(images, channels, *image, dtype=dtype),
        "target": draw.positive(*output, dtype=dtype),
        "bias": perhaps(filters),
        "shortcut": perhaps(*output),
        "image_weight": perhaps(images),
        "scale": draw.choice([1.0, 0.25, 0.0]),
        "activation": draw.choice(["relu", "none"]),
        "batch_size": draw.randint(0, 5),
        **moves.settings,
        **_loop_of(draw, weight),
    }
    return _solved("solve_relu_", arguments, _layer)


def _plain(draw: Draw, values: Tensor) -> Tensor:
    """Contiguous, mostly."""
    return draw.laid_out(values, dense=True) if draw.chance(0.05) else values.contiguous()


def _loop_of(draw: Draw, weight: Tensor) -> Arguments:
    steps, optimizer = draw.randint(0, 3), draw.choice(["adam", "sgd"])
    settings = optimizer_of(draw, optimizer == "adam")
    penalty = penalty_of(draw, weight)
    amounts = torch.full((steps,), penalty.pop("amount"), dtype=torch.float64)
    mask = penalty.pop("mask")
    rates = torch.tensor([rate_of(draw) for _ in range(steps)], dtype=torch.float64)
    arguments = {
        "learning_rates": rates, "amounts": amounts, "optimizer": optimizer, **settings,
        **penalty, "first_step": draw.choice([1, 1, 2, 50]), "state": None, "mask": None,
    }  # fmt: skip
    if draw.chance(0.5):
        count = 2 if optimizer == "adam" else int(settings["momentum"] != 0)
        states = [draw.values(weight.shape, weight.dtype) for _ in range(count)]
        arguments["state"] = [*states[:1], *(part.abs() for part in states[1:])]
        arguments["mask"] = None if mask is None else mask.contiguous()
    return arguments


def _solved(name: str, arguments: Arguments, differentiate: Callable[..., Any]) -> Call:
    def check(before: Arguments, after: Arguments, losses: Tensor) -> None:
        _check_run(name, differentiate, before, after, losses)

    return Call(name, arguments, check, ("weight", "state", "mask"), refusals=_REFUSALS)


def _check_run(
    name: str,
    differentiate: Callable[[Arguments, int], tuple[Bounded, Bounded]],
    before: Arguments,
    after: Arguments,
    losses: Tensor,
) -> None:
    """A run leads where its steps do, one by one, each of which is the formula's."""
    now = _with_state(copied(before))
    for t in range(len(before["learning_rates"])):
        number = before["first_step"] + t
        one = {
            "learning_rates": before["learning_rates"][t : t + 1],
            "amounts": before["amounts"][t : t + 1], "first_step": number,
        }  # fmt: skip
        was = copied(now)
        loss = getattr(fsc_ext, name)(**{**now, **one})
        _require_same(f"loss {t}", losses[t : t + 1], loss, before)
        _check_one(differentiate, was, now, loss, number, one)
    _require_same("weight", after["weight"], now["weight"], before)
    for i, part in enumerate(before["state"] or []):
        found = after["state"][i].reshape(part.shape)
        _require_same(f"state[{i}]", found, now["state"][i], before)
    if before["mask"] is not None:
        require_equal("mask", after["mask"], now["mask"])


def _require_same(what: str, found: Tensor, value: Tensor, before: Arguments) -> None:
    """As close as sums are that a run of several steps may take in another order than one step."""
    unit = epsilon(before["weight"].dtype)
    peak = value.double().abs().amax() if value.numel() else 0.0
    require(what, found, value.double(), 1e3 * unit * peak, lax=True)


def _with_state(arguments: Arguments) -> Arguments:
    weight, adam = arguments["weight"], arguments["optimizer"] == "adam"
    count = 2 if adam else int(arguments["momentum"] != 0)
    if arguments["state"] is None:
        arguments["state"] = [torch.zeros_like(weight) for _ in range(count)]
    if arguments["mask"] is None and arguments["penalty"] in HARD:
        arguments["mask"] = torch.ones_like(weight, dtype=torch.bool)
    return arguments


def _check_one(
    differentiate: Callable[[Arguments, int], tuple[Bounded, Bounded]],
    was: Arguments,
    now: Arguments,
    loss: Tensor,
    number: int,
    one: Arguments,
) -> None:
    names = ("weight", "input", "target", "hessian", "bias", "shortcut", "image_weight")
    if is_extreme(*(was.get(name) for name in names), *was["state"]):
        return
    hessian = was.get("hessian")
    if hessian is not None and not torch.equal(hessian, hessian.mT):
        return  # shared memory has made it another
    value, (grad, error) = differentiate(was, number)
    require("a loss", loss, value[0].reshape(1), value[1])
    states = ["exp_avg", "exp_avg_sq"] if "betas" in was else ["momentum_buffer"]
    step = {
        "grad": grad.view(was["weight"].shape), "step": number,
        "lr": one["learning_rates"].item(), "amount": one["amounts"].item(),
    }  # fmt: skip
    shared = ("weight", "mask", "penalty", "dim", "betas", "eps", "momentum")
    sides = []
    for side in (was, now):
        kept = {key: side[key] for key in shared if key in side}
        sides.append({**kept, **dict(zip(states, side["state"], strict=False))})
    check_step({**sides[0], **step}, sides[1], None, grad_error=error.view(was["weight"].shape))


def _quadratic(was: Arguments, number: int) -> tuple[Bounded, Bounded]:
    unit = epsilon(was["weight"].dtype)
    weight, scale = was["weight"].double(), was["scale"]
    weight = weight.reshape(len(weight), len(was["hessian"]))
    hessian, target = was["hessian"].double(), was["target"].double()
    product, size = weight @ hessian, weight.abs() @ hessian.abs()
    count = unit * (weight.shape[1] + 8)
    loss = scale * (weight * (product - 2 * target)).sum()
    loss_error = scale * count * (weight.abs() * (size + 2 * target.abs())).sum()
    grad = 2 * scale * (product - target)
    return (loss, 2 * loss_error), (grad, 2 * scale * count * (size + target.abs()))


def _layer(was: Arguments, number: int) -> tuple[Bounded, Bounded]:
    weight, dtype = was["weight"], was["weight"].dtype
    count = len(was["input"])
    size = min(was["batch_size"] or count, count)
    begin = (number - 1) % -(-count // size) * size
    part = {
        name: None if was[name] is None else was[name][begin : begin + size].double()
        for name in ("input", "target", "shortcut", "image_weight")
    }
    moves, unit, relu = (
        geometry_of_settings(was, weight),
        epsilon(dtype),
        was["activation"] == "relu",
    )
    value, sizes = convolved(part["input"], weight, was["bias"], moves)
    tiles = tile_sizes(part["input"], weight, moves) if dtype != torch.float64 else 0.0
    if part["shortcut"] is not None:
        value, sizes = value + part["shortcut"], sizes + 2 * (value.abs() + part["shortcut"].abs())
    output = value, unit * (sizes + tiles)
    rounding = unit * (value.abs() + part["target"].abs())
    (difference, error), slanted = residual(output, (part["target"], rounding), relu)
    if moves.is_winograd and dtype != torch.float64:
        norm = LEAST_RESIDUAL * value.square().sum((0, 2, 3), keepdim=True).sqrt()
        slanted = slanted[0], slanted[1] + norm
    share = part["image_weight"]
    share = torch.ones(len(value)) if share is None else share
    share = share.double()[:, None, None, None]
    per_image = was["scale"] / len(value)
    loss, loss_error = squared_sum((share.abs().sqrt() * difference, share.abs().sqrt() * error))
    loss = (share * difference.square()).sum()
    weighted = (share * slanted[0], share.abs() * (slanted[1] + 2 * unit * slanted[0].abs()))
    grad, grad_error = weight_gradient(part["input"], weighted, weight.shape, moves, dtype)
    loss_error = loss_error + 4 * unit * (share.abs() * difference.square()).sum()
    grads = 2 * per_image * grad, 2 * per_image * (grad_error + 4 * unit * grad.abs())
    return (per_image * loss, per_image * loss_error), grads


CALLS = [solve_quadratic_, solve_relu_]
