"""The graph of a network: its layers in order, and who reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import fx, nn

from fsc.networks.modes import evaluation_mode
from fsc.networks.operations import (
    BATCH_NORM,
    CONVOLUTION,
    LAYER,
    Kind,
    is_linear,
    is_pooling,
    only_user,
)
from fsc.networks.out_of_place import remove_in_place
from fsc.networks.quantized_inputs import QuantizedInputConv2d
from fsc.networks.trace_failures import sentence

# Why a network that traces is not read.
MISREAD = "what torch.fx reads in it does not run on these inputs"


class _Tracer(fx.Tracer):
    """Calls what computes as a layer of torch does, and remembers where tracing failed."""

    failed_in: nn.Module | None = None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, QuantizedInputConv2d) or computes_as_torch(m)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if self.failed_in is None:
                self.failed_in = m
            raise


def computes_as_torch(module: nn.Module) -> bool:
    """Whether a module, of a class of torch or a subclass of one, has the forward of torch."""
    if isinstance(module, nn.Sequential):
        return False
    if isinstance(module, CONVOLUTION) and _convolves_otherwise(module):
        return False
    home = type(module).forward.__module__ or ""  # none, where code was generated
    # What has no forward at all has the one of nn.Module, which only says so.
    return home.startswith(("torch.nn.", "torch.ao.nn.")) and home != nn.Module.__module__


def _convolves_otherwise(module: nn.Module) -> bool:
    """Whether a subclass of a convolution has other arithmetic below the forward of torch."""
    own = next(base for base in type(module).__mro__ if base.__module__ == CONVOLUTION.__module__)
    name = "_conv_forward"
    return getattr(type(module), name, None) is not getattr(own, name, None)


def trace(model: nn.Module) -> fx.Graph:
    """Return the graph of a network in evaluation mode, free of in-place operations.

    In-place functions and methods become their out-of-place forms, and what read the overwritten
    value later reads the result instead. Modules with `inplace=True` stay as they are.

    Args:
        model: any module that torch.fx can trace; its training flags are restored.

    Raises:
        ValueError: the forward of some module depends on data, or writes into a view or part of a
            tensor.
    """
    tracer = _Tracer()
    try:
        with evaluation_mode(model):
            graph = tracer.trace(model)
    except Exception as error:
        raise ValueError(sentence("trace", error, model, tracer.failed_in)) from error
    remove_in_place(model, graph)
    return graph


def untraceable(model: nn.Module) -> tuple[str, Exception] | None:
    """Return the innermost module of a network in evaluation mode that torch.fx cannot trace.

    Returns:
        (its name, "" for the network itself; what went wrong), or None.
    """
    tracer = _Tracer()
    try:
        with evaluation_mode(model):
            tracer.trace(model)
    except Exception as error:  # whatever the forward of somebody else raises
        names = {module: name for name, module in model.named_modules()}
        return names.get(tracer.failed_in or model, ""), error
    return None


def misread(model: nn.Module, call: tuple[tuple[Any, ...], Mapping[str, Any]]) -> bool:
    """Whether a network in evaluation mode runs on some inputs, and its graph does not.

    torch.fx takes every argument for a tensor, also one that is left out or given in any number.

    Args:
        model: a network that can be traced.
        call: arguments by place and by name.
    """
    args, kwargs = call
    traced = fx.GraphModule(model, trace(model))
    with evaluation_mode(model), torch.no_grad():
        # Called as a whole a GraphModule would print what went wrong.
        for forward, fails in ((traced.forward, False), (model, True)):
            try:
                forward(*args, **kwargs)
            except Exception:  # whatever an operation raises
                continue
            return fails
    return False


def layer_names(model: nn.Module, graph: fx.Graph, kind: Kind = LAYER) -> list[str]:
    """Return the names of the convolutions and Linears of a graph in execution order.

    Those that are called more than once, or share their weight, are operations like any other.

    Args:
        model: the module that the graph was traced from.
        graph: its graph.
        kind: what counts as a layer.
    """
    shared = shared_layers(model, graph)
    layers = [str(node.target) for node in graph.nodes if kind.matches(model, node)]
    return [name for name in layers if name not in shared]


def batch_norm_after(model: nn.Module, graph: fx.Graph, name: str) -> str | None:
    """Return the name of the BatchNorm that alone reads a layer's output, or None.

    Raises:
        ValueError: the graph calls no such layer.
    """
    user = only_user(layer_node(model, graph, name))
    if user is None or user.op != "call_module":
        return None
    target = str(user.target)
    return target if isinstance(model.get_submodule(target), BATCH_NORM) else None


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
        nothing is pooled before it, or a convolution is the last layer, its input twice.

    Raises:
        ValueError: the network has no such layer.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    found = []
    for head in feature_heads(model, graph):
        before = after = head.all_input_nodes[0]
        poolings = [node for node in ancestors(head) if is_pooling(model, node)]
        if poolings and is_linear(model, head):
            before = max(poolings, key=order.__getitem__).all_input_nodes[0]
        found.append((before, after))
    return found


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
        f"node must be read by a convolution or Linear, got {node.name!r}, which is not"
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
                f"truncate: node must be part of the graph, got {each.name!r} of another"
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


def shared_layers(model: nn.Module, graph: fx.Graph) -> dict[str, str]:
    """Modules with parameters that are called twice or share one: name -> what is the matter."""
    calls: dict[str, int] = {}
    owners: dict[nn.Parameter, str] = {}
    shared = {}
    for node in graph.nodes:
        if node.op != "call_module":
            continue
        name = str(node.target)
        calls[name] = calls.get(name, 0) + 1
        if calls[name] > 1:
            shared[name] = f"layer {name!r} is called more than once; give each call a copy of it"
            continue
        for parameter in model.get_submodule(name).parameters(recurse=False):
            owner = owners.setdefault(parameter, name)
            if owner != name:
                for one, other in ((name, owner), (owner, name)):
                    why = f"layer {one!r} shares a parameter with {other!r}"
                    shared[one] = f"{why}; give it one of its own"
    return shared


def layer_node(model: nn.Module, graph: fx.Graph, name: str) -> fx.Node:
    """Return the node that calls a layer.

    Raises:
        ValueError: the graph calls no such layer.
    """
    for node in graph.nodes:
        if node.target == name and LAYER.matches(model, node):
            return node
    raise ValueError(f"name must be a convolution or Linear that model calls, got {name!r}")


def ancestors(node: fx.Node) -> Iterator[fx.Node]:
    """Yield every node that a node's value depends on."""
    seen = {node}
    pending = [node]
    while pending:
        for parent in pending.pop().all_input_nodes:
            if parent not in seen:
                seen.add(parent)
                pending.append(parent)
                yield parent
