"""The graph of a network: its layers in order, and who reads them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.utils._pytree import tree_map

from fsc.networks.calls import cast, output_of
from fsc.networks.computed_weights import copy_of
from fsc.networks.draws import own_draws
from fsc.networks.hooks import changing
from fsc.networks.modes import evaluation_mode
from fsc.networks.operations import (
    BATCH_NORM,
    CONVOLUTION,
    LAYER,
    Kind,
    only_user,
)
from fsc.networks.out_of_place import out_of_place, remove_in_place
from fsc.networks.outputs import difference
from fsc.networks.quantized_inputs import QuantizedInputConv2d
from fsc.networks.silence import silence
from fsc.networks.trace_failures import sentence
from fsc.wording import shown

_TOLERANCE = 1e-6  # of a graph in float64
_ROUNDINGS = 1000  # in a dtype of its own
_FAILS = object()


@dataclass(frozen=True)
class Unread:
    """What keeps torch.fx from following a network.

    Attributes:
        name: of the innermost module that it cannot follow, "" for the network itself.
        error: what went wrong.
        kind: "untraced" where the module has no graph, "misread" where its graph does not run,
            "unlike" where it computes something else.
    """

    name: str
    error: Exception
    kind: Literal["untraced", "misread", "unlike"]


class _Tracer(fx.Tracer):
    """Calls what computes as a layer of torch does, and remembers where tracing failed."""

    failed_in: nn.Module | None = None

    def __init__(self, whole: Collection[str] = ()) -> None:
        super().__init__()
        self.whole = whole

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if module_qualified_name in self.whole:
            return True
        # What rooms above put into a network says so itself.
        is_own = isinstance(m, QuantizedInputConv2d) or getattr(m, "is_layer_of_fsc", False)
        return is_own or computes_as_torch(m)

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


def trace(model: nn.Module, whole: Collection[str] = ()) -> fx.Graph:
    """Return the graph of a network in evaluation mode, free of in-place operations.

    In-place functions and methods become their out-of-place forms, and what read the overwritten
    value later reads the result instead. Modules with `inplace=True` stay as they are.

    Args:
        model: any module that torch.fx can trace; its training flags are restored.
        whole: names of modules that are one call each, whatever is in them.

    Raises:
        ValueError: the forward of some module depends on data, or writes into a view or part of a
            tensor.
    """
    tracer = _Tracer(whole)
    try:
        with evaluation_mode(model):
            graph = tracer.trace(model)
    except Exception as error:
        raise ValueError(sentence("trace", error, model, tracer.failed_in)) from error
    remove_in_place(model, graph)
    return graph


def unread(model: nn.Module, call: tuple[tuple[Any, ...], Mapping[str, Any]]) -> Unread | None:
    """Return what keeps torch.fx from following a network in evaluation mode on some inputs.

    Its graph is compared with the network, in float64 where that runs so: torch.fx takes every
    argument for a tensor, also one that is left out or given in any number, and does not see what
    is written into a view or under another name. Nor does whoever changes layers see what their
    hooks change of their inputs and outputs.

    Args:
        model: the network; a copy of it is run.
        call: arguments by place and by name.
    """
    network, inputs, expected = _as_exact(model, call)
    tracer = _Tracer()
    try:
        with evaluation_mode(network):
            graph = tracer.trace(network)
    except Exception as error:  # whatever the forward of somebody else raises
        names = {module: name for name, module in network.named_modules()}
        return Unread(names.get(tracer.failed_in or network, ""), error, "untraced")
    try:
        remove_in_place(network, graph)
    except ValueError as error:
        return Unread("", error, "unlike")
    # What does not run at all is said by whoever runs it.
    if expected is _FAILS:
        return None
    return _misread(network, graph, inputs, expected) or _hooked(network, graph, inputs, expected)


def _as_exact(model: nn.Module, call: Any) -> tuple[nn.Module, Any, Any]:
    """A copy of a network, what it is called with and gives: in float64 if it runs so."""
    network, inputs = copy_of(model).double(), tree_map(lambda x: cast(x, torch.float64), call)
    try:
        return network, inputs, _drawn(network, inputs)
    except Exception:  # whatever it raises: it may cast to a dtype of its own
        network = copy_of(model)
    try:
        return network, call, _drawn(network, call)
    except Exception:  # whatever the forward of somebody else raises
        return network, call, _FAILS


def _misread(network: nn.Module, graph: fx.Graph, inputs: Any, expected: Any) -> Unread | None:
    """What is wrong with the graph of a network that gives what is expected."""
    traced = fx.GraphModule(network, graph)
    try:
        with out_of_place(network), silence():
            found = _drawn(traced, inputs)
    except Exception:  # whatever an operation raises
        fault = ValueError("what torch.fx reads in it does not run on these inputs")
        return Unread("", fault, "misread")
    apart, allowed = difference(expected, found), _tolerance(network)
    if apart <= allowed or difference(expected, _drawn(network, inputs)) > allowed:
        return None  # which also holds for one that gives something else each time
    fault = ValueError(
        f"what torch.fx reads in it gives something else, by {apart:.1g} of the largest value"
    )
    return Unread("", fault, "unlike")


def _hooked(network: nn.Module, graph: fx.Graph, inputs: Any, expected: Any) -> Unread | None:
    """What is wrong with a graph where hooks of layers do more than watch; it loses them.

    Those of modules that torch.fx enters are in it.
    """

    def is_same() -> bool:
        try:
            return difference(expected, _drawn(network, inputs)) <= _tolerance(network)
        except Exception:  # whatever a forward raises without its hooks
            return False

    called = dict.fromkeys(str(node.target) for node in graph.nodes if node.op == "call_module")
    name = changing(network, called, is_same)
    if name is None:
        return None
    fault = ValueError(f"hooks change what {name!r} reads or gives")
    return Unread(name, fault, "unlike")


def _drawn(network: nn.Module, inputs: Any) -> Any:
    """What a network gives for arguments, with the same draws each time where it makes some."""
    tensors = (*network.parameters(), *network.buffers(), torch.empty(0, device="cpu"))
    with own_draws(0, tensors[0].device):
        return output_of(network, inputs)


def _tolerance(network: nn.Module) -> float:
    """Rounding grows on its way to the output."""
    dtypes = (p.dtype for p in network.parameters() if p.is_floating_point())
    return max(_TOLERANCE, _ROUNDINGS * torch.finfo(next(dtypes, torch.float32)).eps)


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
    raise ValueError(f"name must be a convolution or Linear that model calls, got {shown(name)}")


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
