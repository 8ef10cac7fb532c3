"""Calls of what is folded into weights, and of Gram matrices."""

from __future__ import annotations

from typing import Any

import torch
from bounded import cut_off, epsilon, is_extreme, require
from calls import Arguments, Call
from convolutions import Bounded, geometry_of, pair
from drawing import Draw
from torch import Tensor
from torch.nn import functional

from fsc_ext import reference
from fsc_ext.testing import EMULATED

# ---- BatchNorm ----

_FUSED = {
    "weight": "weights", "bias": "biases", "running_mean": "running_means",
    "running_var": "running_vars", "bn_weight": "bn_weights", "bn_bias": "bn_biases", "eps": "eps",
}  # fmt: skip


def fuse_conv_bn(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: tuple[Tensor, Tensor]) -> None:
        _check_pair("", result, _fused(before))

    arguments = _fuse_arguments(draw, draw.dtype())
    names = ("weight", "bias", "bn_weight", "bn_bias")
    refusals = ("+ eps must be positive",)
    return Call("fuse_conv_bn", arguments, check, (), names, _fuse_gradients, refusals)


def foreach_fuse_conv_bn(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: tuple[list[Tensor], ...]) -> None:
        for i in range(len(before["weights"])):
            one = {single: _at(before[many], i) for single, many in _FUSED.items()}
            _check_pair(f"[{i}]", (result[0][i], result[1][i]), _fused(one))

    dtype = draw.dtype()
    layers = [_fuse_arguments(draw, dtype) for _ in range(draw.randint(0, 3))]
    arguments = {many: [layer[single] for layer in layers] for single, many in _FUSED.items()}
    if draw.chance(0.3):
        arguments["eps"] = 1e-5
    return Call("foreach_fuse_conv_bn", arguments, check, refusals=("+ eps must be positive",))


def _at(values: Any, index: int) -> Any:
    return values[index] if isinstance(values, list | tuple) else values


def _weight_shape(draw: Draw) -> list[int]:
    return [draw.size() for _ in range(draw.choice([2, 3, 4, 4, 4, 5]))]


def _fuse_arguments(draw: Draw, dtype: torch.dtype) -> Arguments:
    shape = _weight_shape(draw)

    def channels(always: bool = False) -> Tensor | None:
        return draw.tensor(shape[0], dtype=dtype) if always or draw.chance(0.7) else None

    return {
        "weight": draw.tensor(*shape, dtype=dtype), "bias": channels(),
        "running_mean": channels(True), "running_var": draw.positive(shape[0], dtype=dtype),
        "bn_weight": channels(), "bn_bias": channels(), "eps": draw.choice([1e-5, 0.0, 1.0]),
    }  # fmt: skip


def _wide(arguments: Arguments) -> Arguments:
    return {
        name: value.double() if isinstance(value, Tensor) else value
        for name, value in arguments.items()
    }


def _fused(before: Arguments) -> tuple[Bounded, Bounded]:
    """Weight and bias, and how far a scale and two products may lead away from them."""
    wide = _wide(before)
    weight, bias = reference.fuse_conv_bn(**wide)
    sizes = {
        name: value.abs() if isinstance(value, Tensor) else value for name, value in wide.items()
    }
    sizes["running_mean"] = -sizes["running_mean"]
    _, size = reference.fuse_conv_bn(**sizes)
    unit = epsilon(before["weight"].dtype)
    return (weight, 3 * unit * weight.abs()), (bias, unit * bias.abs() + 1e-15 * size)


def _check_pair(at: str, result: tuple[Tensor, Tensor], expected: tuple[Bounded, Bounded]) -> None:
    for name, found, bounded in zip(("the weight", "the bias"), result, expected, strict=True):
        require(name + at, found, *bounded)


def _fuse_gradients(before: Arguments, grads: list[Tensor]) -> list[Bounded | None]:
    wide = _wide(before)
    names = ["weight", "bias", "bn_weight", "bn_bias"]
    found, sizes = [], []
    for absolute in (False, True):
        inputs = {n: v.abs() if absolute and isinstance(v, Tensor) else v for n, v in wide.items()}
        if absolute:
            inputs["running_mean"] = -inputs["running_mean"]
        given = [name for name in names if inputs[name] is not None]
        for name in given:
            inputs[name] = inputs[name].clone().requires_grad_()
        parts = [grad.double().abs() if absolute else grad.double() for grad in grads]
        each = _backward(reference.fuse_conv_bn(**inputs), parts, [inputs[n] for n in given])
        (sizes if absolute else found).append(dict(zip(given, each, strict=True)))
    unit = epsilon(before["weight"].dtype)
    return [
        (found[0][name], unit * found[0][name].abs() + 1e-13 * sizes[0][name].abs())
        if name in found[0]
        else None
        for name in names
    ]


def _backward(
    outputs: tuple[Tensor, ...], grads: list[Tensor], inputs: list[Tensor]
) -> tuple[Tensor, ...]:
    """Of those outputs that are no constants, as a bias is that nothing was given for."""
    pairs = [pair for pair in zip(outputs, grads, strict=True) if pair[0].requires_grad]
    found, parts = zip(*pairs, strict=True)
    return torch.autograd.grad(found, inputs, parts)


# ---- 1x1 convolutions ----

_ABSORBED = {
    "weight": "weights", "bias": "biases", "pointwise_weight": "pointwise_weights",
    "pointwise_bias": "pointwise_biases",
}  # fmt: skip


def absorb_conv1x1(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: tuple[Tensor, Tensor]) -> None:
        _check_pair("", result, _absorbed(before))

    arguments = _absorb_arguments(draw, draw.dtype())
    names = tuple(_ABSORBED)
    return Call("absorb_conv1x1", arguments, check, (), names, _absorb_gradients)


def foreach_absorb_conv1x1(draw: Draw) -> Call:
    def check(before: Arguments, after: Arguments, result: tuple[list[Tensor], ...]) -> None:
        for i in range(len(before["weights"])):
            one = {single: _at(before[many], i) for single, many in _ABSORBED.items()}
            _check_pair(f"[{i}]", (result[0][i], result[1][i]), _absorbed(one))

    dtype = draw.dtype()
    layers = [_absorb_arguments(draw, dtype) for _ in range(draw.randint(0, 3))]
    arguments = {many: [layer[single] for layer in layers] for single, many in _ABSORBED.items()}
    return Call("foreach_absorb_conv1x1", arguments, check)


def _absorb_arguments(draw: Draw, dtype: torch.dtype) -> Arguments:
    shape, new = _weight_shape(draw), draw.size()
    matrix = (new, shape[0], 1, 1) if draw.chance(0.5) else (new, shape[0])
    return {
        "weight": draw.tensor(*shape, dtype=dtype),
        "bias": draw.tensor(shape[0], dtype=dtype) if draw.chance(0.6) else None,
        "pointwise_weight": draw.tensor(*matrix, dtype=dtype),
        "pointwise_bias": draw.tensor(new, dtype=dtype) if draw.chance(0.6) else None,
    }


def _absorbed(before: Arguments) -> tuple[Bounded, Bounded]:
    wide = _wide(before)
    sizes = {name: None if value is None else value.abs() for name, value in wide.items()}
    terms = len(before["weight"]) + 4
    unit = epsilon(before["weight"].dtype) * terms
    least = terms * cut_off(before["weight"], before["pointwise_weight"])
    pairs = zip(reference.absorb_conv1x1(**wide), reference.absorb_conv1x1(**sizes), strict=True)
    weight, bias = ((value, unit * size + least) for value, size in pairs)
    return weight, bias


def _absorb_gradients(before: Arguments, grads: list[Tensor]) -> list[Bounded | None]:
    wide = _wide(before)
    found = []
    for absolute in (False, True):
        inputs = {n: v.abs() if absolute and v is not None else v for n, v in wide.items()}
        given = [name for name in _ABSORBED if inputs[name] is not None]
        for name in given:
            inputs[name] = inputs[name].clone().requires_grad_()
        parts = [grad.double().abs() if absolute else grad.double() for grad in grads]
        each = _backward(reference.absorb_conv1x1(**inputs), parts, [inputs[n] for n in given])
        found.append(dict(zip(given, each, strict=True)))
    terms = max(before["weight"].numel(), before["pointwise_weight"].numel(), 1) + 4
    unit = epsilon(before["weight"].dtype) * terms
    return [
        (found[0][name], unit * found[1][name].abs()) if name in found[0] else None
        for name in _ABSORBED
    ]


# ---- Gram matrices ----


def gram_accumulate_(draw: Draw) -> Call:
    dtype, moves = draw.dtype(), geometry_of(draw)
    images, sides = draw.size(4), {}
    image = [least + draw.choice([0, 1, 3, 6]) for least in moves.least()]
    wide = draw.chance(0.08)
    for side in ("student", "teacher"):
        channels = draw.randint(30, 40) if wide else draw.size(4)
        sides[side] = draw.tensor(images, channels, *image, dtype=dtype)
        sides[f"channels_{side}"] = None
        if draw.chance(0.25) and channels:
            chosen = [draw.randrange(channels) for _ in range(draw.size(5))]
            sides[f"channels_{side}"] = draw.laid_out(torch.tensor(chosen, dtype=torch.int64))
    taps = moves.kernel[0] * moves.kernel[1]
    rows = {side: _channels(sides, side).shape[1] * taps for side in ("student", "teacher")}
    ones = int(draw.chance(0.4))
    wanted = draw.choice([("student",), ("cross",), ("teacher",), ("student", "cross", "teacher")])
    wider = torch.float64 if draw.chance(0.4) or dtype == torch.float64 else torch.float32
    arguments: Arguments = {**sides, **moves.settings, "kernel_size": moves.kernel}
    for name, left, right in _GRAMS:
        gram = draw.values((rows[left] + ones, rows[right] + ones), wider)
        gram = draw.laid_out(gram + gram.mT if left == right else gram, dense=True)
        arguments[f"gram_{name}"] = gram if name in wanted else None
    changes = tuple(f"gram_{name}" for name, *_ in _GRAMS)
    return Call("gram_accumulate_", arguments, _check_grams, changes)


_GRAMS = (
    ("student", "student", "student"), ("cross", "teacher", "student"),
    ("teacher", "teacher", "teacher"),
)  # fmt: skip


def _channels(arguments: Arguments, side: str) -> Tensor:
    chosen, images = arguments[f"channels_{side}"], arguments[side]
    if chosen is None:
        return images
    if not EMULATED:
        return images[:, chosen]
    # On a GPU a channel that is not there is one of zeros.
    there = (chosen >= 0) & (chosen < images.shape[1])
    found = images.new_zeros(len(images), len(chosen), *images.shape[2:])
    found[:, there] = images[:, chosen[there]]
    return found


def _columns(before: Arguments, side: str) -> tuple[Tensor, Tensor]:
    """The unfolded columns, and for every row the norm of its whole channel."""
    images = _channels(before, side).double()
    images = images.view(*images.shape, *[1] * (4 - images.dim()))
    window = [before[name] for name in ("kernel_size", "dilation", "padding", "stride")]
    pairs = [pair(value) for value in window]
    taps = pairs[0][0] * pairs[0][1]
    if images.numel() and _pixels(before, side):
        found = functional.unfold(images, *pairs).transpose(0, 1).flatten(1)
    else:
        found = images.new_zeros(images.shape[1] * taps, _pixels(before, side))
    norms = images.square().sum((0, 2, 3)).sqrt().repeat_interleave(taps)
    return found, norms


def _check_grams(before: Arguments, after: Arguments, result: None) -> None:
    for name, left, right in _GRAMS:
        gram = before[f"gram_{name}"]
        # Memory that is shared may have made a sum that is no Gram matrix.
        if gram is None or (
            left == right and not torch.equal(gram.nan_to_num(), gram.nan_to_num().mT)
        ):
            continue
        (a, a_norm), (b, b_norm) = _columns(before, left), _columns(before, right)
        if gram.shape[0] > len(a):
            count = _pixels(before, left)
            a, b = (x if x.numel() else x.new_zeros(len(x), count) for x in (a, b))
            a, b = (torch.cat([x, x.new_ones(1, x.shape[1])]) for x in (a, b))
            a_norm, b_norm = (
                torch.cat([x, x.new_full((1,), count**0.5)]) for x in (a_norm, b_norm)
            )
        product = a @ b.mT
        unit, count = epsilon(before[right].dtype), a.shape[1] + 8
        error = unit * count * torch.outer(a_norm, b_norm)
        error = error + epsilon(gram.dtype) * (4 * gram.double().abs() + 4 * product.abs())
        extreme = is_extreme(before[left], before[right], gram)
        require(f"gram_{name}", after[f"gram_{name}"], gram.double() + product, error, lax=extreme)


def _pixels(before: Arguments, side: str) -> int:
    """Columns of a side that has no channels."""
    images = before[side]
    if images.dim() == 2:
        return len(images)
    count = len(images)
    names = ("kernel_size", "stride", "padding", "dilation")
    pairs = [pair(before[name]) for name in names]
    for size, kernel, stride, padding, dilation in zip(images.shape[2:], *pairs, strict=True):
        room = size + 2 * padding - dilation * (kernel - 1) - 1
        count *= 0 if room < 0 else room // stride + 1
    return count


CALLS = [
    fuse_conv_bn, foreach_fuse_conv_bn, absorb_conv1x1, foreach_absorb_conv1x1, gram_accumulate_,
]  # fmt: skip
