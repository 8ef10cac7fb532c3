"""Tracing a module for the shapes of given inputs, so that its forward may branch on them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from fsc.networks.out_of_place import out_of_place, remove_in_place
from fsc.networks.quantized_inputs import QuantizedInputConv2d

_SIZES = ("shape", "size")
_FACTS = ("ndim", "dtype", "device", "dim", "ndimension", "is_cuda", "is_floating_point")


def is_own_layer(module: nn.Module) -> bool:
    """Whether a module is one layer to torch.fx: torch.nn's own class, or this package's.

    A SyncBatchNorm is none: in evaluation mode it computes what a BatchNorm does.
    """
    if isinstance(module, QuantizedInputConv2d):
        return True
    own = type(module).__module__.startswith(("torch.nn", "torch.ao.nn"))
    return own and not isinstance(module, nn.Sequential | nn.SyncBatchNorm)


@dataclass(frozen=True)
class Recording:
    """The graph of a module as it runs on some inputs.

    Attributes:
        graph: free of in-place operations.
        values: what each of its nodes is on those inputs.
        varying: the nodes that depend on the inputs.
        reads_sizes: whether the forward asked for a size of what depends on the inputs, so that
            the graph may hold for no other size.
    """

    graph: fx.Graph
    values: dict[fx.Node, Any]
    varying: set[fx.Node]
    reads_sizes: bool


def record(
    module: nn.Module,
    is_leaf: Callable[[nn.Module], bool],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    fixes_sizes: bool = True,
) -> Recording:
    """Trace a module in evaluation mode for given inputs.

    Sizes are plain integers, but for the number of images, which stays open: it can be computed
    with, and a branch on it is taken as it is taken here.

    Args:
        module: whatever torch.fx can trace once it knows the sizes; constants that it computes
            while it is traced become attributes of it.
        is_leaf: which modules inside it stay one call.
        args: what it is called with.
        kwargs: the same by name.
        fixes_sizes: False leaves all sizes open, for a forward that does not branch on them.

    Raises:
        Exception: whatever its forward, or torch.fx, raises.
    """
    tracer = _Tracer(is_leaf, args, kwargs, fixes_sizes)
    graph = tracer.trace(module)
    remove_in_place(module, graph)
    values: dict[fx.Node, Any] = {}
    varying: set[fx.Node] = set()
    with torch.no_grad(), out_of_place(module):
        for node in graph.nodes:
            if node.op == "placeholder":
                values[node] = tracer.values[node]
                varying.add(node)
            elif node.op != "output":
                values[node] = _run(module, node, values)
                varying |= {node} if varying & set(node.all_input_nodes) else set()
    return Recording(graph, values, varying, tracer.reads_sizes)


class _Proxy(fx.Proxy):
    """A value of the graph that knows the shape of what it stands for."""

    def __getattr__(self, name: str) -> Any:
        tracer: Any = self.tracer
        value = tracer.values.get(self.node)
        if isinstance(value, Tensor) and name in _SIZES and tracer.fixes_sizes:
            return tracer.sizes(self) if name == "shape" else partial(tracer.sizes, self)
        if isinstance(value, Tensor) and name in _FACTS:
            return getattr(value, name)
        return super().__getattr__(name)


class _Tracer(fx.Tracer):
    """Computes every value of the graph while it records it."""

    def __init__(
        self,
        is_leaf: Callable[[nn.Module], bool],
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        fixes_sizes: bool,
    ) -> None:
        super().__init__()
        self._is_leaf, self._args, self._kwargs = is_leaf, args, kwargs
        self.fixes_sizes = fixes_sizes
        self.values: dict[fx.Node, Any] = {}
        self.varying: set[fx.Node] = set()
        self.reads_sizes = False
        self._counts: set[fx.Node] = set()  # numbers of images, and what is computed from them
        self._given: dict[str, Any] = {}
        self._computing = False

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether a module is recorded as one call."""
        return self._is_leaf(m)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Any, list[Any]]:
        # What is no tensor is a constant, though its place in the signature stays.
        own = vars(self.root).get("forward")  # chosen when the module was made, not by its class
        forward, given = (root_fn, (self.root,)) if own is None else (own, ())
        bound = inspect.signature(forward).bind(*given, *self._args, **self._kwargs)
        for name, value in list(bound.arguments.items())[len(given) :]:
            kind = bound.signature.parameters[name].kind
            if kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
                raise ValueError("its forward takes any number of arguments")
            self._given[name] = value
            default = () if _holds_tensors(value) else (value,)
            proxy = self.create_proxy("placeholder", name, default, {})
            if not default:
                bound.arguments[name] = _opened(proxy, value)
        return lambda *_: forward(*bound.args, **bound.kwargs), []

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_node(
        self, kind: str, target: Any, args: Any, kwargs: Any, *rest: Any, **named: Any
    ) -> fx.Node:
        node = super().create_node(kind, target, args, kwargs, *rest, **named)
        inputs = set(node.all_input_nodes)
        if kind == "placeholder":
            self.values[node] = self._given[str(target)]
        elif kind != "output":
            self.values[node] = self._compute(node)
        if kind == "placeholder" or inputs & self.varying:
            self.varying.add(node)
        if inputs and inputs <= self._counts:
            self._counts.add(node)
        return node

    def _compute(self, node: fx.Node) -> Any:
        self._computing = True
        try:
            with torch.no_grad():
                return _run(self.root, node, self.values)
        finally:
            self._computing = False

    def sizes(self, proxy: fx.Proxy, dim: int | None = None) -> Any:
        """The shape of a value or one size: integers, and a proxy for the number of images."""
        shape = tuple(self.values[proxy.node].shape)
        if proxy.node not in self.varying or not shape:
            return shape if dim is None else shape[dim]
        # Images and channels are as many at every size of the images.
        self.reads_sizes |= dim not in (0, 1)
        if dim is not None and dim % len(shape) > 0:
            return shape[dim]
        count = self.create_proxy("call_method", "size", (proxy, 0), {})
        self._counts.add(count.node)
        return (count, *shape[1:]) if dim is None else count

    def to_bool(self, obj: Any) -> bool:
        # A number of images is decided on as it is here; values never are.
        return bool(self.values[obj.node]) if obj.node in self._counts else super().to_bool(obj)

    def iter(self, obj: Any) -> Iterator[Any]:
        value = self.values[obj.node]
        if isinstance(value, tuple | list):
            return (obj[index] for index in range(len(value)))
        return super().iter(obj)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._computing:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if self._computing:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


def _run(root: nn.Module, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    args: Any = fx.map_arg(node.args, values.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, values.__getitem__)
    target: Any = node.target
    if node.op == "call_module":
        return root.get_submodule(target)(*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], target)(*args[1:], **kwargs)
    if node.op == "call_function":
        return target(*args, **kwargs)
    value: Any = root
    for part in target.split("."):
        value = getattr(value, part)
    return value


def _opened(proxy: Any, value: Any) -> Any:
    """One of proxies for a dict, list or tuple of tensors, so that a forward can walk it."""
    if isinstance(value, dict):
        return {key: _opened(proxy[key], each) for key, each in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_opened(proxy[index], each) for index, each in enumerate(value))
    return proxy


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in torch.utils._pytree.tree_leaves(value))
