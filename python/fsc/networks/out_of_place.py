"""Graphs without in-place operations, so that a value once computed stays as it is.

torch.fx gives every value one name: what is written into a view, or under another name, is lost in
the graph. So a graph is read out of place, run out of place, and compared with the module that it
was read from (`fsc.networks.tracing.unread`); a module runs as it is, on copies of its inputs
(`fsc.networks.calls`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fsc.networks.modes import evaluation_mode


@contextmanager
def out_of_place(model: nn.Module) -> Iterator[None]:
    """Switch off `inplace` in every module and switch it on again afterwards."""
    modules = [module for module in model.modules() if getattr(module, "inplace", False) is True]
    for module in modules:
        module.inplace = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for module in modules:
            module.inplace = True  # type: ignore[assignment]


@contextmanager
def stepping(model: nn.Module) -> Iterator[None]:
    """Ready a network for its graph to be run, node by node: out of place, without gradients."""
    with evaluation_mode(model), out_of_place(model), torch.no_grad():
        yield


def remove_in_place(model: nn.Module, graph: fx.Graph) -> None:
    """Rewrite the in-place operations of a graph so that every value is written once.

    What reads the overwritten value after the operation reads its result instead. Modules with
    `inplace=True` are not touched; run them under `out_of_place`.

    Args:
        model: the module that the graph was traced from.
        graph: rewritten in place.

    Raises:
        ValueError: a method has no out-of-place form, such as `zero_` or `copy_`.
    """
    order = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if not _make_out_of_place(model, node):
            continue
        overwritten = node.all_input_nodes[0]
        for user in list(overwritten.users):
            if order[user] > order[node]:
                user.replace_input_with(overwritten, node)


def _make_out_of_place(model: nn.Module, node: fx.Node) -> bool:
    """Rewrite a node if it works in place, and tell whether it did."""
    if node.op == "call_module":
        return getattr(model.get_submodule(str(node.target)), "inplace", False) is True
    if node.op == "call_method":
        return _rewrite_method(node)
    return node.op == "call_function" and _rewrite_function(node)


def _rewrite_method(node: fx.Node) -> bool:
    name = str(node.target)
    if not _ends_in_place(name):
        return False
    if not hasattr(Tensor, name[:-1]):
        raise ValueError(
            f"trace: model must not overwrite tensors, got Tensor.{name} at node {node.name!r}; "
            "write that step as an expression with a new result"
        )
    node.target = name[:-1]
    return True


def _rewrite_function(node: fx.Node) -> bool:
    target: Any = node.target
    name = getattr(target, "__name__", "")
    if not _ends_in_place(name) or target is not getattr(torch, name, None):
        return _clear_inplace_argument(node)
    node.target = getattr(torch, name[:-1])
    return True


def _ends_in_place(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__")


def _clear_inplace_argument(node: fx.Node) -> bool:
    if getattr(node.target, "__module__", "") != F.__name__:
        return False
    bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)  # type: ignore[arg-type]
    if bound.arguments.get("inplace") is not True:
        return False
    bound.arguments["inplace"] = False
    node.args, node.kwargs = bound.args, bound.kwargs
    return True
