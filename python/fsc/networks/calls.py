"""What modules are called with, and what they give: recorded, copied and cast.

A forward may write into what it is given. Nobody's images may change by that, nor what is given to
the next network, so that a network that belongs to somebody else is run here alone: on copies, and
is a copy itself where it may count its runs. What `enter` makes of one that writes takes the copies
itself, see `fsc.networks.joint_input`; graphs write nothing, see `fsc.networks.out_of_place`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from fsc.images.joint import Inputs
from fsc.networks.computed_weights import copy_of
from fsc.networks.modes import evaluation_mode, unprinted

Calls = list[tuple[tuple[Any, ...], dict[str, Any]]]


def call_of(example_inputs: Inputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a network, by place and by name."""
    if isinstance(example_inputs, dict):
        return (), example_inputs
    return (example_inputs,) if isinstance(example_inputs, Tensor) else tuple(example_inputs), {}


def run_apart(network: nn.Module, call: Any) -> tuple[Any, Any]:
    """Run a network in evaluation mode on copies of its arguments, without gradients.

    Args:
        network: its modes are restored.
        call: arguments by place and by name; they are not changed.

    Returns:
        (what it gives, the copies as it leaves them).
    """
    args, kwargs = own = tree_map(_copied, call)
    with evaluation_mode(network), unprinted(network), torch.no_grad():
        return network(*args, **kwargs), own


def output_of(network: nn.Module, call: Any) -> Any:
    """What a network gives for arguments by place and by name, run as by `run_apart`."""
    return run_apart(network, call)[0]


def writes_into(network: nn.Module, call: Any) -> bool:
    """Whether a network writes into its arguments; not where it does not run on them."""
    try:
        _, left = run_apart(copy_of(network), call)
    except Exception:  # whatever a forward of somebody else raises
        return False
    return any(_is_written(leaf) for leaf in tree_leaves(left))


def _is_written(value: Any) -> bool:
    """Whether anything was written into a copy since it was made, be it what was there before."""
    return isinstance(value, Tensor) and value._version > 0


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


def learnable(value: Tensor) -> Tensor:
    """A tensor that gradients go past: a copy of one that was made in `torch.inference_mode`."""
    return value.clone() if value.is_inference() else value


def cast(value: Any, dtype: torch.dtype) -> Any:
    """A copy of a tensor, in this dtype if it is floating point."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return _copied(value)
    return value.detach().clone().to(dtype)
