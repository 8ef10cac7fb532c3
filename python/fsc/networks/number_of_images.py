"""The number of images in a graph of torch.export, opened again where a forward fixes it.

A forward that asks `len(images)` gets a number, and torch.export then writes that number wherever
a size of the images goes into a shape. Two graphs, for N and for N + 1 images, show where it is.
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._pytree import tree_leaves, tree_map


def has_images(value: Any) -> bool:
    """Whether something holds one value, or several, an image."""
    return isinstance(value, Tensor) and value.ndim > 0


def with_images(call: Any, added: int) -> Any:
    """Arguments with more images, the first ones again; as they are where numbers differ."""
    if not added or number_of(call) is None:
        return call
    return tree_map(lambda x: torch.cat([x, x[:added]]) if has_images(x) else x, call)


def number_of(call: Any) -> int | None:
    """How many images arguments hold; None where they hold different numbers, or no tensor."""
    numbers = {len(leaf) for leaf in tree_leaves(call) if has_images(leaf)}
    return numbers.pop() if len(numbers) == 1 else None


def fixed_number(program: Any) -> fx.Node | None:
    """The first input of a program whose number of images is fixed, or None."""
    # Imported where torch.export has imported it.
    from torch.fx.experimental.symbolic_shapes import is_concrete_int

    names = program.graph_signature.user_inputs
    for node in program.graph.nodes:
        value = node.meta.get("val")
        if node.name in names and has_images(value) and is_concrete_int(value.shape[0]):
            return node
    return None


def open_number(graph: fx.Graph, other: fx.Graph, name: str, number: int) -> None:
    """Compute from the images what differs between a graph and the same for one image more.

    Graphs that differ in anything but numbers stay as they are.

    Args:
        graph: for `number` images; it is changed.
        other: for `number + 1` images.
        name: of the input that holds the images.
        number: how many there are.
    """
    pairs = list(zip(graph.nodes, other.nodes, strict=False))
    alike = len(graph.nodes) == len(other.nodes)
    if not alike or any(one.target != two.target for one, two in pairs):
        return
    images = next(node for node in graph.nodes if node.name == name)
    last = [node for node in graph.nodes if node.op == "placeholder"][-1]
    with graph.inserting_after(last):
        size = graph.call_method("size", (images, 0))
    for one, two in pairs:
        with graph.inserting_before(one):
            one.args = _opened(graph, size, number, one.args, two.args)
            one.kwargs = _opened(graph, size, number, one.kwargs, two.kwargs)
    if not size.users:
        graph.erase_node(size)


def _opened(graph: fx.Graph, size: fx.Node, number: int, one: Any, two: Any) -> Any:
    """Arguments of a node, with numbers that grow with the number of images computed from it."""
    if isinstance(one, tuple | list) and len(one) == len(two):
        return type(one)(_opened(graph, size, number, a, b) for a, b in zip(one, two, strict=True))
    if isinstance(one, dict) and one.keys() == two.keys():
        return {key: _opened(graph, size, number, one[key], two[key]) for key in one}
    if type(one) is not int or type(two) is not int or one == two:
        return one
    # number -> one and number + 1 -> two, on a line.
    slope, start = two - one, one - (two - one) * number
    found = size if slope == 1 else graph.call_function(operator.mul, (size, slope))
    return found if start == 0 else graph.call_function(operator.add, (found, start))
