"""Residual blocks that can be dropped: their input goes on, as if their branch gave nothing."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from fsc.images.joint import Inputs
from fsc.networks.calls import call_of, output_of
from fsc.networks.operations import ACTIVATION, ADDITION, DROPOUT, IDENTITY, LAYER, RELU
from fsc.networks.outputs import tensors_of
from fsc.networks.placing import put
from fsc.networks.tracing import trace

# What stands where a dropped block stood: nothing, or the activation behind its addition.
Rest = Literal["identity", "activation"]
RESTS: tuple[Rest, ...] = ("identity", "activation")
# An attribute of what takes the place of a block, so that copies and files know of it.
_MARK = "fsc_dropped"
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Blocks:
    """What a network has of residual blocks.

    Attributes:
        found: name of each block that can go, in the order of the network -> what stays of it.
        reasons: name of each other module that holds layers -> why it cannot go.
    """

    found: dict[str, Rest]
    reasons: dict[str, str]


@dataclass
class _Call:
    """What one module was called with."""

    count: int = 0
    read: Tensor | None = None
    given: Any = None


@dataclass(frozen=True)
class _Residual:
    """A module that ends in an addition of its input.

    Attributes:
        graph: of the module.
        branches: what else is added.
        activation: the node of the activation behind the addition.
    """

    graph: fx.Graph
    branches: list[fx.Node]
    activation: fx.Node | None


class _NotResidual(ValueError):
    """Why a module is no residual block."""


def find_blocks(model: nn.Module, example_inputs: Inputs) -> Blocks:
    """Find the residual blocks of a network that can go, each by itself.

    A block is a module with layers in it that is called once, reads one tensor and gives one of the
    same shape, whose input is added, as it is, to what makes its output, before at most one
    activation. Where modules within modules are such, the innermost are meant. Each is tried: the
    network without it must compute what the network computes with the block's branches multiplied
    by zero.

    Args:
        model: a network in plain modules, see `fsc.plain`; it is not changed.
        example_inputs: what it takes; one image is enough.

    Raises:
        ValueError: a module cannot be traced.
    """
    found: dict[str, Rest] = {}
    reasons: dict[str, str] = {}
    calls = _calls(model, example_inputs)
    trial = sharing_copy(model)
    # Inner ones first: what holds a block that can go is none itself.
    for name in reversed(calls):
        inner = next((other for other in found if other.startswith(f"{name}.")), None)
        try:
            if inner is not None:
                raise _NotResidual(f"module {name!r} holds {inner!r}, which can go by itself")
            found[name] = _rest_of(trial, name, calls[name], example_inputs)
        except _NotResidual as error:
            reasons[name] = str(error)
    ordered = [name for name in calls if name in found]
    return Blocks({name: found[name] for name in ordered}, reasons)


def drop_blocks(model: nn.Module, rests: Mapping[str, Rest]) -> None:
    """Put in the place of each block what stays of it, in place.

    Args:
        model: the network; a block that it has lost already is passed over.
        rests: name of each block -> what stays, as `find_blocks` says.

    Raises:
        ValueError: a name is no residual block, or has no activation that could stay.
    """
    gone = dropped_of(model)
    modules = dict(model.named_modules())
    for name, rest in rests.items():
        if gone.get(name) == rest:
            continue
        if not name or name not in modules:
            raise ValueError(f"block {name!r} must be a module of the network, got none")
        residual = _residual(model, name)
        if rest == "activation" and residual.activation is None:
            raise ValueError(f"block {name!r} must end in an activation to keep it, got none")
        put(model, name, _rest(modules[name], residual, rest))


def dropped_of(model: nn.Module) -> dict[str, Rest]:
    """The blocks that a network has lost: name -> what stays of each."""
    return {
        name: getattr(module, _MARK)
        for name, module in model.named_modules()
        if hasattr(module, _MARK)
    }


def inputs_of(
    model: nn.Module, names: Collection[str], example_inputs: Inputs
) -> dict[str, Tensor]:
    """What blocks read of an example: name -> the one tensor."""
    calls = _calls(model, example_inputs)
    found = {name: calls[name].read for name in names}
    return {name: read for name, read in found.items() if read is not None}


def sharing_copy(model: nn.Module) -> nn.Module:
    """Return a copy of a network that shares its parameters and buffers."""
    tensors = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors})


def _calls(model: nn.Module, example_inputs: Inputs) -> dict[str, _Call]:
    """How each module that holds layers in others is called, in the order of the network."""
    modules = {
        name: module
        for name, module in model.named_modules()
        if name and any(isinstance(m, LAYER.modules) for m in module.modules() if m is not module)
    }
    calls = {name: _Call() for name in modules}
    handles = []

    def watch(module: nn.Module, call: _Call) -> None:
        def before(_: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
            call.count += 1
            given = [*args, *named.values()]
            # A copy: the module, or what comes later, may write into it.
            single = len(given) == 1 and isinstance(given[0], Tensor)
            call.read = given[0].clone() if single else None

        def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            call.given = output

        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after))

    for name, module in modules.items():
        watch(module, calls[name])
    try:
        _scores(model, example_inputs)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _rest_of(model: nn.Module, name: str, call: _Call, example_inputs: Inputs) -> Rest:
    """What stays of a block that is dropped; the network is another one while it is tried.

    Raises:
        _NotResidual: it cannot go.
    """
    if call.count != 1:
        how = f"called {call.count} times" if call.count else "never called as a whole"
        raise _NotResidual(f"module {name!r} is {how}")
    read, given = call.read, call.given
    if read is None or not isinstance(given, Tensor):
        raise _NotResidual(f"module {name!r} does not read one tensor and give one")
    if read.shape != given.shape:
        shapes = f"{list(read.shape)} to {list(given.shape)}"
        raise _NotResidual(f"module {name!r} changes the shape, from {shapes}")
    block, residual = model.get_submodule(name), _residual(model, name)
    rests: tuple[Rest, ...] = ("identity",) if residual.activation is None else RESTS
    try:
        put(model, name, _silenced(block, residual))
        expected = [_output(model.get_submodule(name), read), *_scores(model, example_inputs)]
        for rest in rests:
            put(model, name, _rest(block, residual, rest))
            found = [_output(model.get_submodule(name), read), *_scores(model, example_inputs)]
            if all(map(_are_close, found, expected)):
                return rest
    finally:
        put(model, name, block)
    raise _NotResidual(f"module {name!r} does more with its input than add something to it")


def _residual(model: nn.Module, name: str) -> _Residual:
    """How a module adds something to its input.

    Raises:
        _NotResidual: it does not.
    """
    module = model.get_submodule(name)
    no_addition = _NotResidual(f"module {name!r} does not end by adding something to its input")
    graph = trace(module)
    activation = None
    (node,) = next(n for n in graph.nodes if n.op == "output").all_input_nodes[:1] or (None,)
    while node is not None and not ADDITION.matches(module, node):
        if ACTIVATION.matches(module, node) and activation is None:
            activation = node
        elif not (IDENTITY.matches(module, node) or DROPOUT.matches(module, node)):
            raise no_addition
        node = node.all_input_nodes[0]
    terms = [] if node is None else _terms(module, node)
    shortcuts = [term for term in terms if _source(module, term).op == "placeholder"]
    if len(shortcuts) != 1 or len(terms) < 2:
        raise no_addition
    if activation is not None and activation.op != "call_module":
        if not RELU.matches(module, activation):
            raise _NotResidual(f"module {name!r} ends in an activation that is no module")
    return _Residual(graph, [term for term in terms if term not in shortcuts], activation)


def _terms(module: nn.Module, node: fx.Node) -> list[fx.Node]:
    """What is added, by additions of additions too."""
    if not ADDITION.matches(module, node) or len(node.all_input_nodes) < 2:
        return [node]
    return [term for parent in node.all_input_nodes for term in _terms(module, parent)]


def _source(module: nn.Module, node: fx.Node) -> fx.Node:
    """The node whose value this one is, too."""
    while IDENTITY.matches(module, node) or DROPOUT.matches(module, node):
        node = node.all_input_nodes[0]
    return node


def _rest(block: nn.Module, residual: _Residual, rest: Rest) -> nn.Module:
    """What takes the place of a block."""
    made: nn.Module = nn.Identity()
    if rest == "activation":
        assert residual.activation is not None
        made = nn.ReLU()
        if residual.activation.op == "call_module":
            made = copy.deepcopy(block.get_submodule(str(residual.activation.target)))
    setattr(made, _MARK, rest)
    return made.train(block.training)


def _silenced(block: nn.Module, residual: _Residual) -> nn.Module:
    """A block whose branches are multiplied by zero."""
    for branch in residual.branches:
        users = list(branch.users)
        with residual.graph.inserting_after(branch):
            nothing = residual.graph.call_function(torch.mul, (branch, 0))
        for user in users:
            if ADDITION.matches(block, user):
                user.replace_input_with(branch, nothing)
    return fx.GraphModule(block, residual.graph).train(block.training)


def _output(block: nn.Module, read: Tensor) -> Tensor:
    found: Tensor = output_of(block, call_of(read))
    return found


def _scores(model: nn.Module, example_inputs: Inputs) -> list[Tensor]:
    return tensors_of(output_of(model, call_of(example_inputs)))


def _are_close(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are the same but for rounding."""
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    scale = float(other.abs().max()) if other.numel() else 0.0
    return bool(((one - other).abs() <= _TOLERANCE * scale).all())
