"""What users get wrong: an argument of another kind, or memory that two of them share."""

from __future__ import annotations

import math
from typing import Any

import torch
from calls import Call, tensors_of
from drawing import Draw
from torch import Tensor


def spoil(draw: Draw, call: Call) -> None:
    """Makes one argument wrong, or something that its operator must bear."""
    name = draw.choice(list(call.arguments))
    value = call.arguments[name]
    call.arguments[name] = _wrong(draw, value)


def share_memory(draw: Draw, call: Call) -> None:
    """Lays two tensors of one shape and dtype over each other, or between each other's elements."""
    found = list(tensors_of(call.arguments))
    pairs = [
        (one, other)
        for i, (one, a) in enumerate(found)
        for other, b in found[i + 1 :]
        if a.shape == b.shape and a.dtype == b.dtype and a.numel() > 0
    ]
    if not pairs:
        return overlap_itself(draw, call)
    one, other = draw.choice(pairs)
    _replace(call, other, *_over_each_other(draw, call, one))


def overlap_itself(draw: Draw, call: Call) -> None:
    """Gives the elements of an argument memory that they share."""
    found = [(name, tensor) for name, tensor in tensors_of(call.arguments) if tensor.numel() > 1]
    if found:
        name, tensor = draw.choice(found)
        flat = tensor.flatten().clone()
        steps = [draw.randint(0, 1) for _ in tensor.shape]
        _replace(call, name, flat.as_strided(tensor.shape, steps))


def _over_each_other(draw: Draw, call: Call, name: str) -> tuple[Tensor, str, Tensor]:
    """A tensor for the other name, and this name with a tensor of the same values."""
    tensor = dict(tensors_of(call.arguments))[name]
    count, kind = tensor.numel(), draw.choice(["same", "shifted", "gaps", "between"])
    if kind == "same":
        return tensor, name, tensor
    flat = tensor.new_ones(2 * count + 4)
    if kind == "shifted":
        first, second = flat[:count], flat[1 : count + 1]
    else:
        begin = 1 if kind == "between" else 2
        first, second = flat[: 2 * count : 2], flat[begin : begin + 2 * count : 2]
    strides = [step * first.stride(0) for step in torch.empty(tensor.shape).stride()]
    views = [
        part.as_strided(tensor.shape, strides, part.storage_offset()) for part in (first, second)
    ]
    views[1].copy_(tensor)
    views[0].copy_(tensor)
    return views[1], name, views[0]


def _replace(call: Call, *pairs: Any) -> None:
    """`name, tensor` once or `name, tensor, name, tensor`; names may have an index."""
    for name, tensor in zip(pairs[::2], pairs[1::2], strict=True):
        alone, _, index = name.partition("[")
        if index:
            call.arguments[alone] = list(call.arguments[alone])
            call.arguments[alone][int(index[:-1])] = tensor
        else:
            call.arguments[alone] = tensor


def _wrong(draw: Draw, value: Any) -> Any:
    if isinstance(value, Tensor):
        return _wrong_tensor(draw, value)
    if isinstance(value, list):
        return _wrong_list(draw, value)
    if isinstance(value, tuple):
        return draw.choice([None, (1, 2, 3), (), (-1, 1), (0, 0), 2**40, (1.5, 1), 2**63, "1"])
    if isinstance(value, bool):
        return draw.choice([None, "yes", 2, 0.5])
    if isinstance(value, str):
        return draw.choice([None, "", "relu6", "RELU", 3, ["none"]])
    if isinstance(value, int):
        return draw.choice([None, -1, -100, 10**6, 2**31, 2**62, 2**63, 1.5, "1", math.nan])
    if isinstance(value, float):
        return draw.choice(
            [None, math.nan, math.inf, -math.inf, -1.0, -1e-300, 1e308, 10**400, "1", [1.0], 1j]
        )
    return draw.choice([torch.ones(3), "none", 1.0, [], ()])  # where nothing was given


def _wrong_list(draw: Draw, values: list[Any]) -> Any:
    changed = list(values)
    if not values:
        return draw.choice([None, [None], [torch.ones(2)], [1.0], 3, "ab"])
    place = draw.randrange(len(values))
    kind = draw.choice(["shorter", "longer", "none", "element", "element", "not a list"])
    if kind == "shorter":
        del changed[place]
    elif kind == "longer":
        changed.append(changed[place])
    elif kind == "none":
        changed[place] = None
    elif kind == "element":
        changed[place] = _wrong(draw, changed[place])
    else:
        return draw.choice([None, values[place], 5, "ab", {}])
    return changed


def _wrong_tensor(draw: Draw, tensor: Tensor) -> Any:
    kind = draw.randrange(12)
    if kind == 0:
        return tensor[None]
    if kind == 1:
        return tensor[0] if tensor.dim() and len(tensor) else tensor[None, None]
    if kind == 2:
        return torch.cat([tensor, tensor[:1]]) if tensor.dim() else tensor.expand(2)
    if kind == 3:
        return tensor.transpose(0, -1) if tensor.dim() else tensor.expand(1, 1)
    if kind in (4, 5):
        others = [torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.complex64]
        return tensor.detach().to(draw.choice([*others, torch.float64, torch.float32, torch.uint8]))
    if kind == 6:
        return tensor.to("meta")
    if kind == 7:
        return draw.choice([None, None, "weight", 1.0, 3, [1.0], [tensor]])
    if kind == 8:
        return tensor.to_sparse() if tensor.dim() else tensor.new_ones(0)
    if kind == 9 and tensor.is_floating_point():
        return tensor.detach().requires_grad_()
    if kind == 10:
        return tensor.reshape(-1)
    return tensor.new_ones(draw.choice([(0,), (1,), (), (2, 0), (3, 1, 1, 1)]))
