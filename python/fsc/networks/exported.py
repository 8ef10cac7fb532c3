"""A module as the graph that torch.export finds, where torch.fx cannot follow its forward.

torch.export runs a forward on tensors without values, so that it may ask for types, dtypes and
lengths, write into parts of tensors and call scripted functions. What it finds are operators of
ATen, with weights as their arguments: those that a layer of the module computes become calls of
that layer again, and those that others know by their names in Python get these.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import operator
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves, tree_map, tree_unflatten

from fsc.networks.number_of_images import (
    fixed_number,
    has_images,
    number_of,
    open_number,
    with_images,
)
from fsc.networks.operations import BATCH_NORM, CONVOLUTION
from fsc.networks.silence import silence
from fsc.networks.tracing import computes_as_torch

_LAYERS: dict[str, Any] = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), CONVOLUTION),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), CONVOLUTION),
    "linear": nn.Linear,
    **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training"), BATCH_NORM),
    "layer_norm": nn.LayerNorm,
    "group_norm": nn.GroupNorm,
    "prelu": nn.PReLU,
}
_WEIGHTS = ("weight", "bias", "running_mean", "running_var")
_SETTINGS = ("stride", "padding", "output_padding", "dilation", "groups", "num_groups", "eps",
             "normalized_shape")  # fmt: skip
# A view of an image with fewer channels may have no strides, so that it is a reshape.
_METHODS = {
    **{name: name for name in ("expand", "split", "split_with_sizes", "chunk", "mean")},
    **dict.fromkeys(("view", "_unsafe_view", "reshape"), "reshape"),
    "sym_size": "size",
}
_FUNCTIONS: dict[str, Any] = {
    **{name: getattr(torch, name) for name in ("relu", "sigmoid", "tanh", "add", "cat")},
    **{
        name: getattr(F, name)
        for name in (
            "adaptive_avg_pool2d", "avg_pool2d", "max_pool2d", "leaky_relu", "elu", "gelu", "silu",
            "mish", "hardswish", "hardsigmoid", "hardtanh", "softplus",
        )
    },
}  # fmt: skip


def exported(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> fx.GraphModule:
    """Return a module as the graph of its layers and of what torch.export finds between them.

    Args:
        module: in evaluation mode; it stays as it is.
        args: what it is called with.
        kwargs: the same by name.

    Raises:
        Exception: torch.export cannot follow its forward, or it changes its buffers or inputs.
    """
    copied = copy.deepcopy(module)
    bound = inspect.signature(copied.forward).bind(*args, **kwargs)
    program, found = _found(copied, bound.args, bound.kwargs)
    graph = fx.Graph()
    leaves = iter([leaf for name, value in _given(bound) for leaf in _leaves(graph, name, value)])
    copies: dict[fx.Node, fx.Node] = {}
    for node in found.graph.nodes:
        if node.op == "placeholder":
            copies[node] = next(leaves)
        elif node.op == "get_attr":
            _take_constant(copied, found, str(node.target))
            copies[node] = graph.node_copy(node)
        elif node.target is operator.getitem and copies[node.args[0]].op == "call_module":
            copies[node] = copies[node.args[0]]  # a BatchNorm of ATen gives statistics beside
        elif node.op == "output":
            flat = fx.map_arg(node.args[0], copies.__getitem__)
            graph.output(tree_unflatten(tree_leaves(flat), program.call_spec.out_spec))
        elif _is_constant(node):
            copies[node] = graph.get_attr(_kept(copied, node))
        else:
            copies[node] = _called(copied, graph, node, copies)
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    return fx.GraphModule(copied, graph)


def _found(
    module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Any, fx.GraphModule]:
    """What torch.export finds, as a program and as a module; the number of images stays open."""
    # It takes a size of one for fixed.
    call = with_images((args, kwargs), number_of((args, kwargs)) == 1)
    program = _program(module, *call)
    found = program.module(check_guards=False)
    number, fixed = number_of(call), fixed_number(program)
    if number is not None and fixed is not None:
        more = _program(module, *with_images(call, 1)).module(check_guards=False)
        open_number(found.graph, more.graph, fixed.name, number)
    return program, found


def _program(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """What torch.export finds, without anything in place."""
    # Imported where it is needed, because it takes a second and most networks do without.
    from torch.export import Dim, export

    open_first = tree_map(lambda x: {0: Dim.AUTO} if has_images(x) else None, (args, kwargs))
    shapes = _by_name(module, *open_first)
    with torch.no_grad(), silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of torch about its own code
        program = export(module, args, dict(kwargs), dynamic_shapes=shapes, strict=False)
        program = program.run_decompositions({})
    signature = program.graph_signature
    if signature.buffers_to_mutate or signature.user_inputs_to_mutate:
        raise ValueError("its forward changes its buffers or what it is given")
    return program


def _by_name(module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
    return dict(inspect.signature(module.forward).bind(*args, **kwargs).arguments)


def _given(bound: inspect.BoundArguments) -> Iterator[tuple[str, Any]]:
    """Name and value of every argument; those that a forward takes in any number, one by one."""
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            yield from ((f"{name}_{index}", each) for index, each in enumerate(value))
        elif kind is inspect.Parameter.VAR_KEYWORD:
            yield from value.items()
        else:
            yield name, value


def _leaves(graph: fx.Graph, name: str, value: Any) -> Iterator[fx.Node]:
    """The argument of a forward, and what stands for the tensors in it, in the order of pytree."""
    is_constant = not any(isinstance(leaf, Tensor) for leaf in tree_leaves(value))
    argument = graph.placeholder(name, default_value=value if is_constant else inspect._empty)

    def parts(node: fx.Node, within: Any) -> Iterator[fx.Node]:
        keys = range(len(within)) if isinstance(within, tuple | list) else within
        if not isinstance(within, tuple | list | dict):
            yield node
            return
        for key in keys:
            yield from parts(graph.call_function(operator.getitem, (node, key)), within[key])

    return parts(argument, value)


def _take_constant(module: nn.Module, found: nn.Module, name: str) -> None:
    """Makes a tensor that the forward holds, and no module does, a buffer."""
    owner, _, attribute = name.rpartition(".")
    if not hasattr(module.get_submodule(owner) if owner else module, attribute):
        module.register_buffer(attribute, getattr(found, attribute), persistent=False)


def _is_constant(node: fx.Node) -> bool:
    """Whether an operator makes a tensor of nothing, and the same each time."""
    tags = getattr(node.target, "tags", ())
    return not node.all_input_nodes and torch.Tag.nondeterministic_seeded not in tags


def _kept(module: nn.Module, node: fx.Node) -> str:
    """The name of a new buffer of a module that holds a constant."""
    target: Any = node.target
    name = next(n for i in itertools.count() if not hasattr(module, n := f"constant_{i}"))
    module.register_buffer(name, target(*node.args, **node.kwargs), persistent=False)
    return name


def _called(
    module: nn.Module, graph: fx.Graph, node: fx.Node, copies: Mapping[fx.Node, fx.Node]
) -> fx.Node:
    """Puts the call of a layer, a method or a function in the place of an operator."""
    args: Any = fx.map_arg(node.args, copies.__getitem__)
    kwargs: Any = fx.map_arg(node.kwargs, copies.__getitem__)
    name = _name(node)
    layer = _layer(module, node, name)
    if layer is not None:
        return graph.call_module(layer, (args[0],))
    if name in _METHODS and not _reads_bits(node):
        return graph.call_method(_METHODS[name], args, kwargs)
    if name == "slice" and not kwargs:
        return graph.call_function(operator.getitem, (args[0], _index(*args[1:])))
    if name == "slice_scatter" and (place := _place(node)) is not None:
        return _joined(graph, args[0], args[1], *place)
    if name == "copy" and len(args) == 2:  # which has no derivative
        spread = graph.call_method("expand_as", (args[1], args[0]))
        return graph.call_method("type_as", (spread, args[0]))
    if name in _FUNCTIONS:
        return graph.call_function(_FUNCTIONS[name], args, kwargs)
    return graph.node_copy(node, copies.__getitem__)


def _name(node: fx.Node) -> str:
    target: Any = node.target
    return str(target._schema.name).split("::")[1] if hasattr(target, "_schema") else ""


def _reads_bits(node: fx.Node) -> bool:
    """Whether an operator is the view of a tensor in another dtype."""
    return getattr(node.target, "_overloadname", "") == "dtype"


def _arguments(node: fx.Node) -> dict[str, Any]:
    """The arguments of an operator by name, those that are left out too."""
    schema = node.target._schema  # type: ignore[union-attr]
    given = {argument.name: argument.default_value for argument in schema.arguments}
    return given | dict(zip(given, node.args, strict=False)) | node.kwargs


def _layer(module: nn.Module, node: fx.Node, name: str) -> str | None:
    """The name of the layer of a module that computes what an operator computes, or None."""
    if name not in _LAYERS:
        return None
    given = _arguments(node)
    weights = {name: _source(given[name]) for name in _WEIGHTS if name in given}
    owner = next((source.rpartition(".")[0] for source in weights.values() if source), "")
    layer: Any = module.get_submodule(owner)
    if not owner or not isinstance(layer, _LAYERS[name]) or not computes_as_torch(layer):
        return None
    if "forward" in vars(layer) or layer._forward_hooks or layer._forward_pre_hooks:
        return None
    # A call of the layer would also add a bias that the operator leaves out.
    own = {
        name: None if getattr(layer, name, None) is None else f"{owner}.{name}" for name in weights
    }
    return owner if own == weights and _goes_alike(given, layer) else None


def _source(value: Any) -> str | None:
    """The name of the tensor that an argument is; None for none, "" for what is computed."""
    if value is None:
        return None
    return str(value.target) if value.op == "get_attr" else ""


def _goes_alike(given: Mapping[str, Any], layer: Any) -> bool:
    """Whether an operator's strides, padding, divisor and so on are those of a layer."""
    settings = [name for name in _SETTINGS if name in given and hasattr(layer, name)]
    return all(_spread(getattr(layer, n), layer) == _spread(given[n], layer) for n in settings)


def _spread(value: Any, layer: Any) -> Any:
    """One number for each dimension of the pixels, where a layer has such."""
    if isinstance(value, str | float) or not isinstance(layer, CONVOLUTION):
        return tuple(value) if isinstance(value, list) else value
    listed = (value,) if isinstance(value, int) else tuple(value)
    return listed * len(layer.kernel_size) if len(listed) == 1 else listed


def _place(node: fx.Node) -> tuple[int, int, int, int] | None:
    """(axis, start, stop, size) of a part that is written; None where that is no such part."""
    given = _arguments(node)
    size = node.meta["val"].shape[given["dim"]]
    numbers = (size, given["start"], given["end"])
    # The number of images is none here, and what is computed from it neither.
    if not all(each is None or isinstance(each, int) for each in numbers) or given["step"] != 1:
        return None
    start, stop, _ = slice(given["start"], given["end"]).indices(size)
    return given["dim"], start, max(start, stop), size


def _joined(
    graph: fx.Graph, whole: fx.Node, part: fx.Node, axis: int, start: int, stop: int, size: int
) -> fx.Node:
    """A part written into a tensor, as what stands before it, the part, and what stands behind."""
    pieces = [part]
    if start > 0:
        pieces.insert(0, graph.call_function(operator.getitem, (whole, _index(axis, 0, start))))
    if stop < size:
        pieces.append(graph.call_function(operator.getitem, (whole, _index(axis, stop))))
    return graph.call_function(torch.cat, (pieces, axis)) if len(pieces) > 1 else part


def _index(axis: int = 0, start: Any = None, stop: Any = None, step: Any = 1) -> tuple[slice, ...]:
    is_end = isinstance(stop, int) and stop == sys.maxsize
    part = slice(start or None, None if is_end else stop, None if step == 1 else step)
    return (*[slice(None)] * axis, part)
