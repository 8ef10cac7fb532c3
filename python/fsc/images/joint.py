"""All inputs of an image in one row of a tensor, for networks that take several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from fsc.arguments import check_tensor
from fsc.images.scale import ImageStatistics, statistics

# What a network is called with: one tensor, several arguments, or arguments by name.
Inputs = Tensor | tuple[Any, ...] | dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where one input of an image lies in its row.

    Attributes:
        start: its first value.
        shape: of the input, without the axis of images.
        dtype: what it is turned into; None: it keeps that of the rows.
        low: its smallest value, where it has a dtype of its own.
        high: its largest.
    """

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype | None = None
    low: float = 0
    high: float = 0


@dataclass(frozen=True)
class JointInput:
    """How the inputs of a network lie in the rows of one tensor.

    Attributes:
        places: one for each input.
        form: how these make up (arguments, arguments by name).
    """

    places: tuple[Place, ...]
    form: TreeSpec

    def call(self, rows: Tensor) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, and those by name, that lie in rows [N, values]."""
        leaves = [unpacked(rows, *vars(place).values()) for place in self.places]
        args, kwargs = tree_unflatten(leaves, self.form)
        return args, kwargs

    def statistics(self, rows: Tensor) -> ImageStatistics:
        """Those of all channels of floating-point inputs, one input after the other."""
        found = ImageStatistics([], [], [], [])
        for place in self.places:
            if place.dtype is None:
                own = unpacked(rows, place.start, place.shape)
                each = statistics(own if own.ndim > 1 else own[:, None])
                for name, values in vars(found).items():
                    values.extend(getattr(each, name))
        return found


@fx.wrap
def unpacked(
    rows: Tensor,
    start: int,
    shape: tuple[int, ...],
    dtype: torch.dtype | None = None,
    low: float = 0,
    high: float = 0,
) -> Tensor:
    """Take one input out of rows: [N, values] to [N, *shape]; one operation of a graph.

    An input of a dtype of its own is rounded and kept within its range, so that rows which
    somebody has drawn hold no index beyond a table.
    """
    values = rows[:, start : start + math.prod(shape)].reshape(len(rows), *shape).contiguous()
    return values if dtype is None else values.round().clamp(low, high).to(dtype)


def reads_images(node: fx.Node) -> bool:
    """Whether all that a node of a graph reads are images, as they were given."""
    inputs = node.all_input_nodes
    return bool(inputs) and all(map(_is_image, inputs))


def _is_image(node: fx.Node) -> bool:
    if node.target == "clone":  # for a network that writes into its images
        return reads_images(node)
    return node.op == "placeholder" or node.target is unpacked


def packed(function: str, inputs: Inputs, dtype: torch.dtype) -> tuple[Tensor, JointInput]:
    """Put all inputs of each image into one row.

    Args:
        function: who asks, for the sentence.
        inputs: tensors [N, ...] as the network takes them, all on one device.
        dtype: of the network, and of the rows.

    Returns:
        (rows [N, values], where everything lies).

    Raises:
        ValueError: an input has another floating-point dtype, or numbers that this one cannot hold.
    """
    check_values(function, inputs, dtype)
    call = ((), inputs) if isinstance(inputs, dict) else (_tuple(inputs), {})
    leaves, form = tree_flatten(call)
    places, columns, start = [], [], 0
    for leaf in leaves:
        own = leaf.detach().to(dtype)
        if leaf.dtype == dtype:
            found = Place(start, tuple(leaf.shape[1:]))
        else:
            low, high = (float(bound) for bound in own.aminmax())
            found = Place(start, tuple(leaf.shape[1:]), leaf.dtype, low, high)
        places.append(found)
        columns.append(own.flatten(1) if own.ndim > 1 else own[:, None])
        start += columns[-1].shape[1]
    return torch.cat(columns, 1).as_subclass(Tensor), JointInput(tuple(places), form)


def input_names(inputs: Inputs) -> list[str]:
    """What sentences call the tensors of inputs, in their order."""
    if isinstance(inputs, Tensor):
        return ["images"]
    if isinstance(inputs, dict):
        return [repr(name) for name in inputs]
    if len(inputs) == 1 and isinstance(inputs[0], dict):
        return input_names(inputs[0])
    return [f"input {index}" for index in range(len(inputs))]


def shapes_in_words(inputs: Inputs) -> str:
    """The shapes of inputs with what they are called."""
    shapes = [str(list(leaf.shape)) for leaf in tree_flatten(inputs)[0]]
    if isinstance(inputs, Tensor):
        return shapes[0]
    named = zip(input_names(inputs), shapes, strict=True)
    return " and ".join(f"{shape} for {name}" for name, shape in named)


def check_numbers(function: str, inputs: Inputs) -> None:
    """Make sure that there are as many images in every input.

    Raises:
        ValueError: there are not.
        TypeError: an input is no tensor.
    """
    leaves = tree_flatten(inputs)[0]
    for leaf in leaves:
        check_tensor(f"{function}: images", leaf)
    if not leaves or any(_is_other(leaf, leaves[0]) for leaf in leaves):
        raise ValueError(
            f"{function}: images must be as many in every input, [N, ...] with one N of at least "
            f"1, got {shapes_in_words(inputs)}"
        )


def _is_other(leaf: Tensor, first: Tensor) -> bool:
    """Whether a tensor holds nothing, or not as many images as the first."""
    return not leaf.ndim or len(leaf) != len(first) or not leaf.numel()


def check_values(function: str, inputs: Inputs, dtype: torch.dtype) -> None:
    """Make sure that rows of a dtype can hold the values of every input.

    Raises:
        ValueError: an input has another floating-point dtype, or numbers that this one cannot hold.
    """
    for name, leaf in zip(input_names(inputs), tree_flatten(inputs)[0], strict=True):
        if leaf.dtype != dtype and not leaf.is_meta:
            _check_exact(function, name, leaf, dtype)


def _check_exact(function: str, name: str, given: Tensor, dtype: torch.dtype) -> None:
    if given.is_floating_point() or given.is_complex():
        raise ValueError(
            f"{function}: images must have the dtype of the network, {dtype}, or integers in "
            f"every input, got {given.dtype} for {name}"
        )
    if not torch.equal(given.to(dtype).to(given.dtype), given):
        most = 2 ** (1 - int(math.log2(torch.finfo(dtype).eps)))
        raise ValueError(
            f"{function}: images must hold integers that {dtype} can hold, up to {most}, got "
            f"{int(given.abs().max())} for {name}"
        )


def _tuple(inputs: Tensor | tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs,) if isinstance(inputs, Tensor) else inputs
