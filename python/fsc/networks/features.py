"""The features of a network: what its last layers read, who reads a value, and what computes it."""

from __future__ import annotations

from typing import Any

from torch import fx, nn

from fsc.networks.operations import LAYER, is_linear, is_pooling, reads_shape
from fsc.networks.tracing import ancestors
from fsc.wording import shown


def feature_heads(model: nn.Module, graph: fx.Graph) -> list[fx.Node]:
    """Return the nodes of the Linears and convolutions that a network ends in, in its order.

    Raises:
        ValueError: it has none, or one with a forward of its own.
    """
    ends: list[fx.Node] = []
    seen: set[fx.Node] = set()
    pending = [node for node in graph.nodes if node.op == "output"]
    while pending:  # backwards, and not beyond a layer
        for node in pending.pop().all_input_nodes:
            if node not in seen:
                seen.add(node)
                (ends if _layer_of(model, node) else pending).append(node)
    last = set(ends) - {parent for end in ends for parent in ancestors(end)}
    heads = [node for node in graph.nodes if node in last]
    other = next((node for node in heads if not LAYER.matches(model, node)), None)
    if not heads or other is not None:
        raise ValueError(
            "feature_nodes: model must end in a Linear layer or convolution, with the forward of "
            f"torch.nn, got {'none' if other is None else _layer_of(model, other)}"
        )
    return heads


def feature_nodes(model: nn.Module, graph: fx.Graph) -> list[tuple[fx.Node, fx.Node]]:
    """Return the nodes of the features before and after the last pooling, for each head.

    Returns:
        (the input of the last pooling before a final Linear, the input of that Linear); where
        nothing is pooled before it, something else joins what was pooled, or a convolution is the
        last layer, its input twice.

    Raises:
        ValueError: the network has no such layer.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    found = []
    for head in feature_heads(model, graph):
        before = after = head.all_input_nodes[0]
        poolings = [node for node in ancestors(head) if is_pooling(model, node)]
        if poolings and is_linear(model, head):
            last = max(poolings, key=order.__getitem__)
            before = after if _is_joined(last, head) else last.all_input_nodes[0]
        found.append((before, after))
    return found


def _is_joined(pooling: fx.Node, head: fx.Node) -> bool:
    """Whether something that was not pooled there comes in between a pooling and a head."""
    behind = {pooling}
    for node in pooling.graph.nodes:  # in the order of execution
        if behind & set(node.all_input_nodes):
            behind.add(node)
    path = (behind & set(ancestors(head))) - {pooling}
    read = {parent for node in {*path, head} for parent in node.all_input_nodes}
    others = read - path - {pooling}
    return any(node.op != "get_attr" and not reads_shape(node) for node in others)


def reader_of(model: nn.Module, node: fx.Node) -> str:
    """Return the name of the first layer that mixes the channels of a node's value.

    Raises:
        ValueError: no layer reads it.
    """
    seen, pending = {node}, [node]
    while pending:
        for user in pending.pop(0).users:
            if LAYER.matches(model, user):
                layer: Any = model.get_submodule(str(user.target))
                if not 1 < getattr(layer, "groups", 1) == layer.in_channels:
                    return str(user.target)
            if user not in seen:
                seen.add(user)
                pending.append(user)
    raise ValueError(
        f"node must be read by a convolution or Linear, got {shown(node.name)}, which is not"
    )


def truncate(
    model: nn.Module, graph: fx.Graph, node: fx.Node | tuple[fx.Node, ...]
) -> fx.GraphModule:
    """Return the part of a network that computes one node, or a tuple of some.

    It shares the network's modules: training it trains `model`; submodules keep their names.

    Raises:
        ValueError: a node is not part of the graph.
    """
    wanted = node if isinstance(node, tuple) else (node,)
    for each in wanted:
        if each.graph is not graph:
            raise ValueError(
                f"truncate: node must be part of the graph, got {shown(each.name)} of another"
            )
    needed = {*wanted, *(parent for each in wanted for parent in ancestors(each))}
    shortened = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for old in graph.nodes:
        if old in needed or old.op == "placeholder":
            copies[old] = shortened.node_copy(old, copies.__getitem__)
    shortened.output(tuple(map(copies.get, node)) if isinstance(node, tuple) else copies[node])
    return fx.GraphModule(model, shortened)


def _layer_of(model: nn.Module, node: fx.Node) -> str | None:
    """Name and class of the convolution or Linear, or subclass of one, that a node is part of."""
    if node.op == "call_module":
        stack = [(str(node.target), type(model.get_submodule(str(node.target))))]
    else:
        stack = list(node.meta.get("nn_module_stack", {}).values())
    if not stack or not issubclass(stack[-1][1], LAYER.modules):
        return None
    return f"{stack[-1][0]!r} ({stack[-1][1].__name__})"
