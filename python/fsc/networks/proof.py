"""Channel groups that have been tried: a cut network must compute what the masked one computes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from fsc.networks.channels import ChannelGroup, labelled_groups
from fsc.networks.cutting import Kept, cut_channels, mask_channels
from fsc.networks.modes import evaluation_mode

# Relative, in float64: rounding stays ten orders of magnitude below.
TOLERANCE = 1e-4


def channel_groups(
    model: nn.Module, example_inputs: Tensor | tuple[Tensor, ...]
) -> list[ChannelGroup]:
    """Find the channels of a network that go or stay together.

    What the graph says is tried: half of the free channels of every group are cut, and the result
    is compared with the network in which they are masked. A group in which the two differ, or whose
    cut does not run because sizes are written into the code, stays whole and says so.

    Args:
        model: a network that torch.fx can trace; it is not changed.
        example_inputs: what it takes; one image is enough.

    Returns:
        Groups in execution order, of everything that a layer writes.

    Raises:
        ValueError: the network cannot be traced.
    """
    inputs = example_inputs if isinstance(example_inputs, tuple) else (example_inputs,)
    inputs = tuple(tensor.detach().cpu().double().as_subclass(Tensor) for tensor in inputs)
    model = copy.deepcopy(model).cpu().double()
    groups = labelled_groups(model, inputs)
    halves = {group.name: _half(group) for group in groups if group.frozen is None}
    reasons = _unsound(model, groups, halves, inputs)
    return [_frozen(group, reasons.get(group.name)) for group in groups]


def _unsound(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, inputs: tuple[Tensor, ...]
) -> dict[str, str]:
    """The groups whose cut is wrong, with what is wrong: halves of the list are tried apart."""
    reason = difference(model, groups, kept, inputs) if kept else None
    if reason is None:
        return {}
    names = list(kept)
    if len(names) == 1:
        return {names[0]: reason}
    parts = names[: len(names) // 2], names[len(names) // 2 :]
    found = [_unsound(model, groups, {n: kept[n] for n in part}, inputs) for part in parts]
    return found[0] | found[1]


def difference(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, inputs: tuple[Tensor, ...]
) -> str | None:
    """What tells the cut network from the masked one, None where nothing does.

    Args:
        model: in float64, on the CPU; it is not changed.
        groups: its channel groups.
        kept: as for `cut_channels`.
        inputs: float64, on the CPU.
    """
    masked, cut = copy.deepcopy(model), copy.deepcopy(model)
    mask_channels(masked, groups, kept)
    cut_channels(cut, groups, kept)
    with evaluation_mode(masked), evaluation_mode(cut), torch.no_grad():
        expected = _flat(masked(*inputs))
        try:
            found = _flat(cut(*inputs))
        except Exception as error:  # whatever the network's own code raises on fewer channels
            line = next(iter(str(error).splitlines()), "") or type(error).__name__
            return f"the network does not run without some of them: {line}"
    if expected.shape != found.shape:
        return "the output has another size without some of them"
    relative = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
    if not relative <= TOLERANCE:
        return f"the output changes by {relative:.1e} where they are cut instead of masked"
    return None


def _flat(output: object) -> Tensor:
    leaves = [leaf for leaf in tree_flatten(output)[0] if isinstance(leaf, Tensor)]
    return torch.cat([leaf.flatten().double() for leaf in leaves])


def _half(group: ChannelGroup) -> Tensor:
    """The channels left when every second free one goes, at least one."""
    free = group.free.nonzero().flatten()
    stays = torch.ones(group.size, dtype=torch.bool, device="cpu")
    stays[free[1::2] if len(free) > 1 else free[:0]] = False
    if len(free) == 1 and group.size > 1:
        stays[free] = False
    return stays.nonzero().flatten()


def _frozen(group: ChannelGroup, reason: str | None) -> ChannelGroup:
    if reason is None:
        return group
    return replace(group, free=torch.zeros_like(group.free), frozen=reason)
