"""Channel groups that have been tried: a cut network must compute what the masked one computes."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fsc.channels.cutting import Kept, cut_channels, mask_channels
from fsc.channels.groups import ChannelGroup, labelled_groups
from fsc.images.joint import Inputs
from fsc.networks.calls import call_of, output_of
from fsc.networks.computed_weights import copy_of
from fsc.networks.joint_input import one_input
from fsc.networks.modes import outside_inference
from fsc.networks.outputs import difference, tensors_of
from fsc.networks.wrappers import dtype_of

# Of every output by itself; rounding in float64 stays ten orders of magnitude below.
TOLERANCE = 1e-4
_ROUNDINGS = 1e8  # of the largest output, below which another is zero but for rounding


@outside_inference()
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
    model, examples = _in_double(*one_input("channel_groups", model, example_inputs))
    groups = labelled_groups(model, examples[:1])
    reasons: dict[str, str] = {}
    for is_other in (False, True):
        halves = {
            group.name: _half(group, index, is_other)
            for index, group in enumerate(groups)
            if group.frozen is None and group.name not in reasons
        }
        reasons |= _unsound(model, groups, halves, examples)
    return left_whole(groups, reasons)


def faults_of_cut(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, example_inputs: Tensor
) -> dict[str, str]:
    """The groups in which a cut network computes something else than the masked one -> what.

    Args:
        model: the whole network; it is not changed.
        groups: its channel groups.
        kept: as for `cut_channels`.
        example_inputs: what it takes; one image is enough.
    """
    if not kept:
        return {}
    network, examples = _in_double(model, example_inputs)
    return _unsound(network, groups, kept, examples)


def left_whole(groups: Sequence[ChannelGroup], reasons: Mapping[str, str]) -> list[ChannelGroup]:
    """Groups, of which those of some names keep all of their channels, with the reasons."""
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
    for name, fault in faults_of_cut(model, groups, kept, example_inputs).items():
        raise ValueError(f"channels of {name!r} cannot be cut: {fault}")


def _in_double(model: nn.Module, example_inputs: Tensor) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A copy of the network on the CPU, in float64 if it runs so, and two inputs to try it on.

    The first has the shape of the example alone. Its values are drawn: with zeros, networks without
    biases would compute the same whatever is cut. The second is the example: where its values are
    of another size, layers may be alive that are dead on what is drawn.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(
        example_inputs.shape, generator=generator, dtype=torch.float64, device="cpu"
    )
    given = example_inputs.detach().cpu().double()
    double = copy_of(model).cpu().double()
    if _fault_of_run(double, drawn) is None:
        return double, (drawn, given)
    # Such as a network that casts to a dtype of its own.
    found = copy_of(model).cpu()
    drawn, given = drawn.to(dtype_of(found)), given.to(dtype_of(found))
    fault = _fault_of_run(found, drawn)
    if fault is not None:
        raise ValueError(
            f"model and example_inputs of {list(drawn.shape)} must run together, failed with: "
            f"{fault}"
        )
    return found, (drawn, given)


def _fault_of_run(model: nn.Module, inputs: Tensor) -> str | None:
    """The first line of what a network raises on some inputs."""
    try:
        output_of(model, call_of(inputs))
    except Exception as error:  # whatever the network's own code raises
        return next(iter(str(error).splitlines()), "") or type(error).__name__
    return None


def _unsound(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, examples: Sequence[Tensor]
) -> dict[str, str]:
    """The groups whose cut is wrong, with what is wrong: halves of the list are tried apart."""
    reason = fault_of_cut(model, groups, kept, examples) if kept else None
    if reason is None:
        return {}
    names = list(kept)
    if len(names) == 1:
        return {names[0]: reason}
    parts = names[: len(names) // 2], names[len(names) // 2 :]
    found = [_unsound(model, groups, {n: kept[n] for n in part}, examples) for part in parts]
    # Where only all of them together are wrong, all of them stay.
    return found[0] | found[1] or dict.fromkeys(names, reason)


def fault_of_cut(
    model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept, examples: Sequence[Tensor]
) -> str | None:
    """What tells the cut network from the masked one on the worst example, None where nothing does.

    Args:
        model: on the CPU, in float64 where it runs so; it is not changed.
        groups: its channel groups.
        kept: as for `cut_channels`.
        examples: what it takes, each by itself.
    """
    tried = copy.deepcopy(model)
    mask_channels(tried, groups, kept)
    expected = [_tensors(tried, inputs) for inputs in examples]
    # As students are: what is cut away is what was masked, and a second copy would cost as much.
    cut_channels(tried, groups, kept)
    try:
        found = [_tensors(tried, inputs) for inputs in examples]
    except Exception as error:  # whatever the network's own code raises on fewer channels
        line = next(iter(str(error).splitlines()), "") or type(error).__name__
        return (
            "the network does not run without some of them, as where sizes stand in its code: "
            f"{line}"
        )
    pairs = list(zip(expected, found, strict=True))
    if any([a.shape for a in masked] != [b.shape for b in cut] for masked, cut in pairs):
        return "the output has another size without some of them"
    floor = min(1.0, _ROUNDINGS * torch.finfo(dtype_of(model)).eps)
    relative = max(difference(masked, cut, floor) for masked, cut in pairs)
    if not relative <= TOLERANCE:
        return f"the output changes by {relative:.1e} where they are cut instead of set to zero"
    return None


def _tensors(network: nn.Module, inputs: Tensor) -> list[Tensor]:
    output = output_of(network, call_of(inputs))
    leaves = tensors_of(output)
    if not leaves:
        kind = type(output).__name__
        raise ValueError(
            f"model must return tensors, or lists, dicts or dataclasses of them, got {kind}"
        )
    return leaves


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
