"""What modules are called with, and what they give: recorded, copied and cast."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from fsc.images.joint import Inputs

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


def call_of(example_inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a network, by place and by name."""
    if isinstance(example_inputs, dict):
        return (), example_inputs
    return (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs), {}


def output_of(network: nn.Module, call: Any) -> Any:
    """What a network gives for arguments by place and by name, without gradients."""
    args, kwargs = call
    with torch.no_grad():
        return network(*args, **kwargs)


def record_calls(network: nn.Module, names: Iterable[str], call: Any) -> dict[str, Calls]:
    """What modules are called with in one run of a network."""
    calls: dict[str, Calls] = {name: [] for name in names}
    handles = [
        network.get_submodule(name).register_forward_pre_hook(
            # Copies, because a later layer may overwrite what this one reads.
            lambda _, args, kwargs, seen=seen: seen.append(tree_map(_copied, (args, kwargs))),
            with_kwargs=True,
        )
        for name, seen in calls.items()
    ]
    try:
        output_of(network, call)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


def cast(value: Any, dtype: torch.dtype) -> Any:
    """A copy of a tensor, in this dtype if it is floating point."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return _copied(value)
    return value.detach().clone().to(dtype)
