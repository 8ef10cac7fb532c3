"""Channel groups that have been tried: a cut network must compute what the masked one computes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from fsc.channels.cutting import Kept, cut_channels, mask_channels
from fsc.channels.groups import ChannelGroup, labelled_groups
from fsc.networks.computed_weights import copy_of
from fsc.networks.modes import evaluation_mode
from fsc.networks.wrappers import dtype_of

# A tensor, or all arguments of the network.
Inputs = Tensor | tuple[Any, ...]
# Relative; rounding in float64 stays ten orders of magnitude below.
TOLERANCE = 1e-4


def channel_groups(model: nn.Module, example_inputs: Inputs) -> list[ChannelGroup]:
    """Find the channels of a network that go or stay together.

    What the graph says is tried: a half of the free channels of every group is cut, and the result
    is compared with the network in which they are masked. A group in which the two differ, or whose
    cut does not run because sizes are written into the code, stays whole and says so.

    Args:
        model: a network that torch.fx can trace; it is not changed.
        example_inputs: what it takes; one image is enough.

    Returns:
        Groups in execution order, of everything that a layer writes.

    Raises:
        ValueError: the network cannot be traced, or does not run on the example.
    """
    model, inputs = _in_double(model, example_inputs)
    groups = labelled_groups(model, inputs)
    halves = {group.name: _half(group, i) for i, group in enumerate(groups) if not group.frozen}
    reasons = _unsound(model, groups, halves, inputs)
    return [_frozen(group, reasons.get(group.name)) for group in groups]


def check_cut(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, example_inputs: Inputs
) -> None:
    """Make sure that a cut network computes what the masked one computes.

    Args:
        model: the whole network; it is not changed.
        groups: its channel groups.
        kept: as for `cut_channels`.
        example_inputs: what it takes.

    Raises:
        ValueError: it does not; the sentence names the groups.
    """
    model, inputs = _in_double(model, example_inputs)
    for name, fault in _unsound(model, groups, kept, inputs).items():
        raise ValueError(f"channels of {name!r} cannot be cut: {fault}")


def _in_double(model: nn.Module, example_inputs: Inputs) -> tuple[nn.Module, tuple[Any, ...]]:
    """A copy of the network on the CPU, in float64 if it runs so, and values of its inputs' shapes.

    Values are drawn: with zeros, networks without biases would compute the same whatever is cut.
    """
    given = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    generator = torch.Generator().manual_seed(0)

    def drawn(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value.cpu() if isinstance(value, Tensor) else value
        return torch.randn(value.shape, generator=generator, dtype=torch.float64, device="cpu")

    inputs = tuple(drawn(value) for value in given)
    found = copy_of(model).cpu()
    double = copy.deepcopy(found).double()
    if _fault_of_run(double, inputs) is None:
        return double, inputs
    # Such as a network that casts to a dtype of its own.
    inputs = tuple(_as(dtype_of(found), value) for value in inputs)
    fault = _fault_of_run(found, inputs)
    if fault is not None:
        shapes = ", ".join(str(list(v.shape)) for v in inputs if isinstance(v, Tensor))
        raise ValueError(
            f"model and example_inputs of {shapes} must run together, failed with: {fault}"
        )
    return found, inputs


def _fault_of_run(model: nn.Module, inputs: tuple[Any, ...]) -> str | None:
    """The first line of what a network raises on some inputs."""
    try:
        with evaluation_mode(model), torch.no_grad():
            model(*inputs)
    except Exception as error:  # whatever the network's own code raises
        return next(iter(str(error).splitlines()), "") or type(error).__name__
    return None


def _as(dtype: torch.dtype, value: Any) -> Any:
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if is_float else value


def _unsound(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, inputs: tuple[Any, ...]
) -> dict[str, str]:
    """The groups whose cut is wrong, with what is wrong: halves of the list are tried apart."""
    reason = fault_of_cut(model, groups, kept, inputs) if kept else None
    if reason is None:
        return {}
    names = list(kept)
    if len(names) == 1:
        return {names[0]: reason}
    parts = names[: len(names) // 2], names[len(names) // 2 :]
    found = [_unsound(model, groups, {n: kept[n] for n in part}, inputs) for part in parts]
    # Where only all of them together are wrong, all of them stay.
    return found[0] | found[1] or dict.fromkeys(names, reason)


def fault_of_cut(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, inputs: tuple[Any, ...]
) -> str | None:
    """What tells the cut network from the masked one, None where nothing does.

    Args:
        model: on the CPU, in float64 where it runs so; it is not changed.
        groups: its channel groups.
        kept: as for `cut_channels`.
        inputs: what it takes.
    """
    cut = copy.deepcopy(model)
    cut_channels(cut, groups, kept)
    with evaluation_mode(cut), torch.no_grad():
        try:
            found = _flat(cut(*inputs))
        except Exception as error:  # whatever the network's own code raises on fewer channels
            line = next(iter(str(error).splitlines()), "") or type(error).__name__
            return (
                "the network does not run without some of them, as where sizes stand in its code: "
                f"{line}"
            )
    del cut
    masked = copy.deepcopy(model)
    mask_channels(masked, groups, kept)
    with evaluation_mode(masked), torch.no_grad():
        expected = _flat(masked(*inputs))
    if expected.shape != found.shape:
        return "the output has another size without some of them"
    relative = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
    if not relative <= TOLERANCE:
        return f"the output changes by {relative:.1e} where they are cut instead of set to zero"
    return None


def _flat(output: object) -> Tensor:
    leaves = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]
    if not leaves:
        kind = type(output).__name__
        raise ValueError(f"model must return tensors, or lists or dicts of them, got {kind}")
    return torch.cat([leaf.flatten().double() for leaf in leaves])


def _half(group: ChannelGroup, seed: int) -> Tensor:
    """The channels left when a half of those that are free goes, drawn for each group anew."""
    free = group.free.nonzero().flatten()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(free), generator=generator, device="cpu")
    gone = free[order[: max(1, len(free) // 2)]]
    stays = torch.ones(group.size, dtype=torch.bool, device="cpu")
    stays[gone] = False
    for slot in group.slots:
        if slot.role != "size" and not bool(slot.mask(stays).any()):
            stays[slot.channels[0]] = True
    return stays.nonzero().flatten()


def _frozen(group: ChannelGroup, reason: str | None) -> ChannelGroup:
    if reason is None:
        return group
    return replace(group, free=torch.zeros_like(group.free), frozen=reason, held=None)
