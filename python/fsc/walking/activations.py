"""The ReLU behind a layer: right behind it, or behind an addition that the layer feeds."""

from __future__ import annotations

from typing import Literal

from torch import fx, nn

from fsc.networks.operations import ADDITION, IDENTITY, LAYER, RELU, only_user
from fsc.networks.tracing import ancestors, layer_names, layer_node


def following_activation(model: nn.Module, graph: fx.Graph, name: str) -> Literal["relu", "none"]:
    """Return "relu" when a ReLU alone reads a layer's output, "none" otherwise.

    Identity modules, which a folded batch normalization leaves behind, are looked through.

    Raises:
        ValueError: the graph calls no such layer.
    """
    user = _reader(model, layer_node(model, graph, name))
    return "relu" if user is not None and RELU.matches(model, user) else "none"


def activation_of_sum(model: nn.Module, graph: fx.Graph, name: str) -> Literal["relu", "none"]:
    """Return "relu" when a layer goes into an addition alone, and the sum into a ReLU alone.

    Raises:
        ValueError: the graph calls no such layer.
    """
    addition = _addition(model, layer_node(model, graph, name))
    user = None if addition is None else _reader(model, addition)
    return "relu" if user is not None and RELU.matches(model, user) else "none"


def shortcut_of(model: nn.Module, graph: fx.Graph, name: str) -> fx.Node | None:
    """Return what is added to a layer's output, as in a residual block.

    Returns:
        The other summand, when the addition alone reads the layer and no layer has to run between
        the layer and the other summand; None otherwise.

    Raises:
        ValueError: the graph calls no such layer.
    """
    layer = layer_node(model, graph, name)
    addition = _addition(model, layer)
    if addition is None:
        return None
    others = [node for node in addition.all_input_nodes if layer not in {node, *ancestors(node)}]
    if len(others) != 1 or any(LAYER.matches(model, n) for n in _missing(graph, layer, others[0])):
        return None
    return others[0]


def run_shortcuts_first(model: nn.Module, graph: fx.Graph) -> None:
    """Move what the shortcut of a layer needs before that layer.

    Args:
        model: the module that the graph was traced from, out of place.
        graph: reordered in place; every value stays the same.
    """
    for name in layer_names(model, graph):
        shortcut = shortcut_of(model, graph, name)
        if shortcut is not None:
            layer = layer_node(model, graph, name)
            for node in _missing(graph, layer, shortcut):
                layer.prepend(node)


def _missing(graph: fx.Graph, layer: fx.Node, shortcut: fx.Node) -> list[fx.Node]:
    """The nodes from the layer on that the shortcut needs, in execution order."""
    needed = {shortcut, *ancestors(shortcut)}
    order = list(graph.nodes)
    return [node for node in order[order.index(layer) :] if node in needed]


def _addition(model: nn.Module, layer: fx.Node) -> fx.Node | None:
    user = _reader(model, layer)
    adds = user is not None and ADDITION.matches(model, user) and not user.kwargs
    return user if adds else None


def _reader(model: nn.Module, node: fx.Node) -> fx.Node | None:
    user = only_user(node)
    while user is not None and IDENTITY.matches(model, user):
        user = only_user(user)
    return user
