"""One module as the layers of torch.nn that compute what it computes in evaluation mode."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fsc.networks.concrete import Recording, is_own_layer, record
from fsc.networks.functional import batch_norm, layer_of
from fsc.networks.operations import DROPOUT, IDENTITY
from fsc.networks.outputs import difference

_STATISTICS = ("running_mean", "running_var", "weight", "bias")
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict)
_TOLERANCE = 1e-10
_TORCH = ("torch", "_operator", "operator", "math", "builtins", "None")
_NAMES = {"Conv": "convolution", "Linear": "linear", "Pad": "pad", "Norm": "norm"}


def layer_class(module: nn.Module) -> type[nn.Module] | None:
    """The class of torch.nn, no container, that a module's class is or derives from."""
    for base in type(module).__mro__:
        if base.__module__.startswith("torch.nn") and issubclass(base, nn.Module):
            return None if base is nn.Module or issubclass(base, _CONTAINERS) else base
    return None


def with_own_class(module: nn.Module) -> nn.Module | None:
    """Return a module as one of the class of torch.nn whose forward it inherits, or None.

    Whether other methods of the subclass change what that forward computes has to be tried.
    """
    base = layer_class(module)
    if base is None or base is nn.SyncBatchNorm or type(module).forward is not base.forward:
        return None
    layer = base.__new__(base)
    kept = {
        name: value
        for name, value in vars(module).items()
        if type(value).__module__.split(".")[0] in ("builtins", "collections", "torch")
    }
    vars(layer).update(copy.deepcopy(kept))
    return layer


def from_calls(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[nn.Module, bool]:
    """Rebuild a module from the functions that it calls on given inputs.

    Weights that it computes become parameters, dropout goes, statistics that it applies in a
    formula of its own become a BatchNorm.

    Args:
        module: in evaluation mode, float64; it stays as it is.
        args: what it is called with.
        kwargs: the same by name.

    Returns:
        A layer, a Sequential of layers or, where its calls are no chain, a GraphModule; and
        whether it asked for the size of its input, so that this holds for that size alone.

    Raises:
        Exception: it cannot be traced, or calls a function that is not of PyTorch.
    """
    norm = _norm_by_formula(module, args, kwargs)
    copied = copy.deepcopy(module)
    recording = record(copied, is_own_layer, args, kwargs)
    # Backwards, so that a convolution still finds the function that pads its input.
    for node in reversed(list(recording.graph.nodes)):
        if node in recording.varying and _is_computed(node) and node.users:
            _rewrite(copied, recording, node, norm)
            if not node.users:
                recording.graph.erase_node(node)
    recording.graph.eliminate_dead_code(lambda node: not _is_computed(node))
    for node in recording.graph.nodes:
        if _is_foreign(node):
            raise ValueError(f"it calls {node.target.__name__}, which is not of PyTorch")
    layers = _chain(copied, recording.graph, args, kwargs)
    if layers is None:
        return _graph_module(copied, recording.graph), recording.reads_sizes
    if len(layers) < 2:
        return next(iter(layers.values()), nn.Identity()), recording.reads_sizes
    return nn.Sequential(layers), recording.reads_sizes


def specialised(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> fx.GraphModule:
    """Return a module as the graph of the calls of its submodules on given inputs.

    Raises:
        Exception: its forward cannot be traced even where the sizes are known.
    """
    copied = copy.deepcopy(module)
    recording = record(copied, lambda _: True, args, kwargs)
    return _graph_module(copied, recording.graph)


def may_return_its_input(module: nn.Module) -> bool:
    """Whether a module without submodules and tensors calls nothing that is of PyTorch.

    Dropout does not count. Whether the rest returns its input has to be tried.
    """
    try:
        graph = fx.Tracer().trace(module)
    except Exception:  # whatever a forward of somebody else raises
        return False
    calls = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    return all(_is_foreign(node) or DROPOUT.matches(module, node) for node in calls)


def is_known(made: nn.Module) -> bool:
    """Whether something was recognised in a module: it is an Identity, or has weights in layers."""
    return isinstance(made, nn.Identity) or any(
        is_own_layer(layer) and layer.state_dict() for layer in made.modules()
    )


def _rewrite(module: nn.Module, recording: Recording, node: fx.Node, norm: str | None) -> None:
    """Puts a layer in the place of a function call, or nothing in that of an identity."""
    if _is_identity(module, recording, node):
        node.replace_all_uses_with(node.all_input_nodes[0])
        return
    made = layer_of(node, recording)
    if node.name == norm:
        first = next(iter(recording.graph.nodes))
        made = _norm_of(module, recording.values[first].ndim), first
    if made is None:
        return
    layer, source = made
    if isinstance(layer, _BatchNorm):
        _take_counters(layer, module)
    layer.requires_grad_(any(parameter.requires_grad for parameter in module.parameters()))
    name = _free_name(module, layer)
    module.add_module(name, layer.eval())
    with recording.graph.inserting_before(node):
        call = recording.graph.call_module(name, (source,))
    node.replace_all_uses_with(call)


def _is_computed(node: fx.Node) -> bool:
    return node.op not in ("placeholder", "output")


def _is_identity(module: nn.Module, recording: Recording, node: fx.Node) -> bool:
    if IDENTITY.matches(module, node):
        return True
    if node.op != "call_function" or not node.all_input_nodes:
        return False
    passes = DROPOUT.matches(module, node) or _is_foreign(node)
    return passes and recording.values[node] is recording.values[node.all_input_nodes[0]]


def _is_foreign(node: fx.Node) -> bool:
    """Whether a function is of neither Python nor PyTorch."""
    home = str(getattr(node.target, "__module__", None)).split(".")[0]
    return node.op == "call_function" and home not in _TORCH


def _graph_module(module: nn.Module, graph: fx.Graph) -> fx.GraphModule:
    # A graph of its own: a pickled one would be traced again by the class that traced this one.
    own = fx.Graph()
    own.output(own.graph_copy(graph, {}))
    return fx.GraphModule(module, own)


def _take_counters(norm: _BatchNorm, module: nn.Module) -> None:
    counted = getattr(module, "num_batches_tracked", None)
    if isinstance(counted, Tensor):
        norm.num_batches_tracked = counted.clone()
    if isinstance(module, _BatchNorm):
        norm.momentum = module.momentum


def _free_name(module: nn.Module, layer: nn.Module) -> str:
    kind = type(layer).__name__
    name = next((name for part, name in _NAMES.items() if part in kind), "activation")
    number = 1
    while hasattr(module, name if number == 1 else f"{name}{number}"):
        number += 1
    return name if number == 1 else f"{name}{number}"


def _chain(
    module: nn.Module, graph: fx.Graph, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> OrderedDict[str, nn.Module] | None:
    """The layers of a graph that only calls one after the other, or None."""
    if len(args) != 1 or kwargs:
        return None
    first, *calls, output = graph.nodes
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    previous = first
    for node in calls:
        if node.op != "call_module" or node.args != (previous,) or node.kwargs:
            return None
        layers[str(node.target).replace(".", "_")] = module.get_submodule(str(node.target))
        previous = node
    return layers if output.args == (previous,) and len(layers) == len(calls) else None


def _norm_of(module: nn.Module, dimensions: int) -> nn.Module:
    tensors: dict[str, Tensor | None] = {name: getattr(module, name, None) for name in _STATISTICS}
    return batch_norm(dimensions, tensors, float(getattr(module, "eps", 1e-5)))


def _norm_by_formula(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> str | None:
    """The name of the node that normalises by a module's statistics without F.batch_norm.

    It is found on random statistics and inputs: what equals the normalised input on those does so
    by no chance, as an activation could where all inputs are positive.
    """
    tensors = {name: getattr(module, name, None) for name in _STATISTICS}
    is_norm = all(isinstance(tensors[name], Tensor) for name in _STATISTICS[:2])
    if not is_norm or len(args) != 1 or kwargs:
        return None
    tried = copy.deepcopy(module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in tensors.items():
            if isinstance(value, Tensor):
                drawn = torch.rand(value.shape, generator=generator, dtype=value.dtype) + 0.5
                getattr(tried, name).copy_(drawn)
        noise = torch.randn(args[0].shape, generator=generator, dtype=args[0].dtype)
        noise = noise.to(args[0].device)
        expected = _norm_of(tried, noise.ndim).eval()(noise)
        recording = record(tried, is_own_layer, (noise,), {})
    for node in recording.graph.nodes:
        value = recording.values.get(node)
        if node in recording.varying and isinstance(value, Tensor):
            if difference(expected, value) <= _TOLERANCE:
                return node.name
    return None
