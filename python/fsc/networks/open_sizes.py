"""Numbers of channels that are written into a forward, made attributes that a cut can change."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import fx, nn

from fsc.networks.concrete import record
from fsc.networks.tracing import trace

_SHAPES = ("view", "reshape", "expand", "unflatten")
_SPLITS = ("split", "split_with_sizes")


class Size(int):
    """An integer that is an attribute of a GraphModule and knows its name, also when traced."""

    name: str

    def __new__(cls, value: int, name: str) -> Size:
        """The integer `value`, attribute `name` of its GraphModule."""
        made = super().__new__(cls, value)
        made.name = name
        return made

    def __reduce__(self) -> tuple[type[Size], tuple[int, str]]:
        """Copies know their name as well."""
        return Size, (int(self), self.name)


@dataclass(frozen=True)
class Place:
    """What an integer in a call counts.

    Attributes:
        of: "input": the indices of an axis before it, of the call's first argument; "result": all
            indices of an axis of what the call gives.
        axis: the axis.
        part: of the result, where it is a tuple of tensors.
    """

    of: Literal["input", "result"]
    axis: int
    part: int = 0


def map_sizes(node: fx.Node, change: Callable[[int, Place], Any]) -> tuple[Any, Any]:
    """The arguments of a node with every size that may be one of channels changed.

    These are the sizes of a view and its like, of parts of a split, and the bounds of slices, but
    for the first axis, which is that of images, unless a parameter is viewed.

    Args:
        node: any node.
        change: from the integer and what it counts to what takes its place.

    Returns:
        (arguments, arguments by name).
    """
    name = str(getattr(node.target, "__name__", node.target))
    args, kwargs = tuple(node.args), dict(node.kwargs)
    if node.op not in ("call_function", "call_method") or not args:
        return args, kwargs
    if node.target is operator.getitem and isinstance(args[1], tuple):
        return (args[0], _slices(args[1], change)), kwargs
    if name in _SHAPES and len(args) > 1:
        return _shape(name, args, change), kwargs
    if name in _SPLITS:
        return _parts(args, kwargs, change)
    if name == "narrow" and len(args) == 4 and isinstance(args[1], int) and args[1] != 0:
        start = _changed(args[2], Place("input", args[1]), change)
        return (*args[:2], start, _changed(args[3], Place("result", args[1]), change)), kwargs
    return args, kwargs


def _shape(name: str, args: tuple[Any, ...], change: Callable[[int, Place], Any]) -> Any:
    first = 0  # the axis of the first size
    if name == "unflatten":
        if not isinstance(args[1], int) or args[1] < 1 or len(args) < 3:
            return args
        first, args = args[1], (args[0], args[2])
    listed = isinstance(args[1], tuple | list)
    given = args[1] if listed else args[1:]
    images = 0 if isinstance(args[0], fx.Node) and args[0].op == "get_attr" else 1
    sizes = [
        _changed(size, Place("result", first + i), change) if first + i >= images else size
        for i, size in enumerate(given)
    ]
    if name == "unflatten":
        return args[0], first, sizes
    return (args[0], tuple(sizes)) if listed else (args[0], *sizes)


def _parts(
    args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[int, Place], Any]
) -> Any:
    axis = kwargs.get("dim", args[2] if len(args) > 2 else 0)
    if not isinstance(axis, int) or axis == 0:
        return args, kwargs
    names = [name for name in kwargs if name.startswith("split_size")]
    given = args[1] if len(args) > 1 else kwargs[names[0]] if names else None
    if isinstance(given, tuple | list):
        made: Any = [_changed(n, Place("result", axis, i), change) for i, n in enumerate(given)]
    else:
        made = _changed(given, Place("result", axis), change)
    if len(args) > 1:
        return (args[0], made, *args[2:]), kwargs
    return args, kwargs | {name: made for name in names}


def _slices(index: tuple[Any, ...], change: Callable[[int, Place], Any]) -> tuple[Any, ...]:
    found = list(index)
    for axis, part in enumerate(index):
        if not isinstance(part, slice):
            break  # the axes behind it are counted otherwise
        if axis and part.step is None:
            place = Place("input", axis)
            bounds = (_changed(bound, place, change) for bound in (part.start, part.stop))
            found[axis] = slice(*bounds)
    return tuple(found)


def _changed(size: Any, place: Place, change: Callable[[int, Place], Any]) -> Any:
    # One of one is no number of channels that could be fewer.
    return change(size, place) if isinstance(size, int) and size > 1 else size


def holders(model: nn.Module) -> list[str]:
    """The modules, "" for the network itself, that have such sizes written into their forward.

    Raises:
        ValueError: the network cannot be traced.
    """
    found: dict[str, None] = {}

    def note(size: int, place: Place) -> int:
        if type(size) is int:
            found[owner] = None
        return size

    for node in trace(model).nodes:
        owner = holder_of(node)
        map_sizes(node, note)
    return list(found)


def holder_of(node: fx.Node) -> str:
    """The module in whose forward a node of a traced network stands, "" for the network itself."""
    stack = node.meta.get("nn_module_stack") or {}
    return str(list(stack.values())[-1][0]) if stack else ""


def open_sizes(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> nn.Module:
    """Return a module as the graph of its calls, with such sizes as its attributes.

    Args:
        module: its submodules become those of the result.
        args: what it is called with.
        kwargs: the same by name.

    Raises:
        Exception: its forward cannot be traced.
    """
    graph = record(module, lambda _: True, args, kwargs, fixes_sizes=False).graph
    sizes = _own_sizes(module)

    def make(size: int, place: Place) -> fx.Node:
        name = size.name if isinstance(size, Size) else f"size_{len(sizes)}"
        sizes[name] = Size(size, name)
        return graph.create_node("get_attr", name)

    for node in list(graph.nodes):
        with graph.inserting_before(node):
            node.args, node.kwargs = map_sizes(node, make)
    return _with_attributes(module, graph, sizes)


def _own_sizes(module: nn.Module) -> dict[str, Size]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Size)}


def _with_attributes(module: nn.Module, graph: fx.Graph, sizes: Mapping[str, Size]) -> nn.Module:
    own = fx.Graph(tracer_cls=_Tracer)
    own.output(own.graph_copy(graph, {}))
    holder = nn.Module()
    vars(holder).update(vars(module) | dict(sizes))
    made = fx.GraphModule(holder, own, type(module).__name__)
    # What the graph does not call is part of the network all the same.
    for kind in ("_modules", "_parameters", "_buffers"):
        getattr(made, kind).update(getattr(module, kind))
    made.training = module.training
    return made


class _Tracer(fx.Tracer):
    """Traces a graph again that was pickled, and leaves sizes attributes."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if isinstance(attr_val, Size):
            return self.create_proxy("get_attr", attr, (), {})
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def sizes_of(model: nn.Module) -> dict[str, int]:
    """All sizes of a network that a cut may have changed and no tensor tells, by their names."""
    found: dict[str, int] = {}
    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        found |= {prefix + size: int(value) for size, value in _own_sizes(module).items()}
        if isinstance(module, nn.LayerNorm) and module.weight is None:
            if len(module.normalized_shape) == 1:
                found[f"{prefix}normalized_shape"] = module.normalized_shape[0]
    return found


def set_size(model: nn.Module, name: str, size: int) -> None:
    """Change one of them."""
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    if isinstance(module, nn.LayerNorm):
        module.normalized_shape = (size,)
    else:
        setattr(module, attribute, Size(size, attribute))
