"""Channel groups that have been tried: a cut network must compute what the masked one computes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fsc.channels.cutting import Kept, cut_channels, mask_channels
from fsc.channels.groups import ChannelGroup, labelled_groups
from fsc.images.joint import Inputs
from fsc.networks.computed_weights import copy_of
from fsc.networks.joint_input import one_input
from fsc.networks.modes import evaluation_mode
from fsc.networks.outputs import tensors_of
from fsc.networks.wrappers import dtype_of

# Relative; rounding in float64 stays ten orders of magnitude below.
TOLERANCE = 1e-4


def channel_groups(model: nn.Module, example_inputs: Inputs) -> list[ChannelGroup]:
    """Find the channels of a network that go or stay together.

    What the graph says is tried: a half of the free channels of every group is cut, then the other
    half, and the result is compared with the network in which they are masked. A group in which
    the two differ, or whose cut does not run because sizes are written into the code, stays whole
    and says so.

    Args:
        model: a network that torch.fx can trace; it is not changed.
        example_inputs: what it takes: a tensor, a tuple of arguments or a dict of named ones; one
            image is enough.

    Returns:
        Groups in execution order, of everything that a layer writes.

    Raises:
        ValueError: the network cannot be traced, or does not run on the example.
    """
    model, inputs = _in_double(*one_input("channel_groups", model, example_inputs))
    groups = labelled_groups(model, (inputs,))
    reasons: dict[str, str] = {}
    for is_other in (False, True):
        halves = {
            group.name: _half(group, index, is_other)
            for index, group in enumerate(groups)
            if group.frozen is None and group.name not in reasons
        }
        reasons |= _unsound(model, groups, halves, inputs)
    return [_frozen(group, reasons.get(group.name)) for group in groups]


def check_cut(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, example_inputs: Tensor
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


def _in_double(model: nn.Module, example_inputs: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy of the network on the CPU, in float64 if it runs so, and values of its inputs' shape.

    Values are drawn: with zeros, networks without biases would compute the same whatever is cut.
    """
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(
        example_inputs.shape, generator=generator, dtype=torch.float64, device="cpu"
    )
    double = copy_of(model).cpu().double()
    if _fault_of_run(double, inputs) is None:
        return double, inputs
    # Such as a network that casts to a dtype of its own.
    found = copy_of(model).cpu()
    inputs = inputs.to(dtype_of(found))
    fault = _fault_of_run(found, inputs)
    if fault is not None:
        raise ValueError(
            f"model and example_inputs of {list(inputs.shape)} must run together, failed with: "
            f"{fault}"
        )
    return found, inputs


def _fault_of_run(model: nn.Module, inputs: Tensor) -> str | None:
    """The first line of what a network raises on some inputs."""
    try:
        with evaluation_mode(model), torch.no_grad():
            model(inputs)
    except Exception as error:  # whatever the network's own code raises
        return next(iter(str(error).splitlines()), "") or type(error).__name__
    return None


def _unsound(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, inputs: Tensor
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
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, inputs: Tensor
) -> str | None:
    """What tells the cut network from the masked one, None where nothing does.

    Args:
        model: on the CPU, in float64 where it runs so; it is not changed.
        groups: its channel groups.
        kept: as for `cut_channels`.
        inputs: what it takes.
    """
    tried = copy.deepcopy(model)
    mask_channels(tried, groups, kept)
    with evaluation_mode(tried), torch.no_grad():
        expected = _flat(tried(inputs))
    # As students are: what is cut away is what was masked, and a second copy would cost as much.
    cut_channels(tried, groups, kept)
    with evaluation_mode(tried), torch.no_grad():
        try:
            found = _flat(tried(inputs))
        except Exception as error:  # whatever the network's own code raises on fewer channels
            line = next(iter(str(error).splitlines()), "") or type(error).__name__
            return (
                "the network does not run without some of them, as where sizes stand in its code: "
                f"{line}"
            )
    if expected.shape != found.shape:
        return "the output has another size without some of them"
    relative = float((found - expected).norm() / expected.norm().clamp(min=1e-30))
    if not relative <= TOLERANCE:
        return f"the output changes by {relative:.1e} where they are cut instead of set to zero"
    return None


def _flat(output: object) -> Tensor:
    leaves = tensors_of(output)
    if not leaves:
        kind = type(output).__name__
        raise ValueError(
            f"model must return tensors, or lists, dicts or dataclasses of them, got {kind}"
        )
    return torch.cat([leaf.flatten().double() for leaf in leaves])


def _half(group: ChannelGroup, seed: int, is_other: bool) -> Tensor:
    """The channels left when one or the other half of those that are free goes, as drawn."""
    free = group.free.nonzero().flatten()
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(free), generator=generator, device="cpu")
    middle = max(1, len(free) // 2)
    gone = free[order[middle:] if is_other else order[:middle]]
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
