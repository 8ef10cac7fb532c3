"""Channels as the graph of a network has them: what goes together, what stays, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsc.networks.labels import NONE, Labels
from fsc.networks.modes import evaluation_mode
from fsc.networks.out_of_place import out_of_place
from fsc.networks.propagation import Propagation, Role, Side
from fsc.networks.tracing import shared_layers, trace


@dataclass(frozen=True)
class Slot:
    """What of a module or parameter belongs to a group.

    Attributes:
        name: of the module, or of the bare parameter.
        role: "writer", "reader" or "carrier".
        channels: for every index of the module's side the channel of the group that it belongs to,
            NONE where it belongs to another group, int64 [size].
        axis: of a bare parameter, the axis that is indexed; None for a module.
    """

    name: str
    role: Role
    channels: Tensor
    axis: int | None = None


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that several layers share, each of which goes or stays as a whole.

    Attributes:
        name: of the first layer that writes them.
        size: number of channels; where several rows of a layer must go together, they are one.
        slots: what is indexed by them, writers first, in execution order.
        free: which of them may go, bool [size].
        frozen: why none may go, None where some may.
    """

    name: str
    size: int
    slots: tuple[Slot, ...]
    free: Tensor
    frozen: str | None

    def named(self, role: Role) -> list[str]:
        """The modules of a role, in execution order."""
        return [slot.name for slot in self.slots if slot.role == role]


def labelled_groups(model: nn.Module, example_inputs: tuple[Tensor, ...]) -> list[ChannelGroup]:
    """Find the channels of a network that go or stay together, as its graph has them.

    Args:
        model: a network that `trace` accepts, on the CPU.
        example_inputs: what it takes; the network runs on it once, its operations many times.

    Returns:
        Groups in execution order, of everything that a layer writes.

    Raises:
        ValueError: the network cannot be traced.
    """
    labels = Labels()
    graph = trace(model)
    with evaluation_mode(model), out_of_place(model), torch.no_grad():
        pass_ = Propagation(model, graph, labels, shared_layers(model, graph))
        pass_.run(*example_inputs)
    return _grouped(pass_.all_sides(), labels)


def _grouped(sides: Sequence[Side], labels: Labels) -> list[ChannelGroup]:
    """Classes of labels that share a writer, one group each."""
    sides = [replace(side, labels=labels.roots(side.labels)) for side in sides]
    writers = [side for side in sides if side.role == "writer"]
    together = Labels()  # of the classes, those that a writer holds side by side
    numbers: dict[int, int] = {}
    for side in writers:
        for label in side.labels.tolist():
            numbers.setdefault(label, len(numbers))
    together.make(len(numbers))
    for side in writers:
        found = torch.tensor([numbers[label] for label in side.labels.tolist()])
        together.join(found[:1].expand_as(found), found)
    members: dict[int, list[int]] = {}
    for label, number in numbers.items():
        members.setdefault(together.root(number), []).append(label)
    return [_group(classes, sides, labels) for classes in members.values()]


def _group(classes: list[int], sides: Sequence[Side], labels: Labels) -> ChannelGroup:
    known = torch.tensor(sorted(classes))  # as the first writer has them
    slots = []
    for side in sides:
        place = torch.searchsorted(known, side.labels).clamp(max=len(known) - 1)
        channels = torch.where(known[place] == side.labels, place, NONE)
        if bool((channels != NONE).any()):
            slots.append(Slot(side.name, side.role, channels, side.axis))
    slots.sort(key=lambda slot: slot.role != "writer")
    reasons = [labels.reason(label) for label in known.tolist()]
    free = torch.tensor([reason is None for reason in reasons])
    frozen = None if bool(free.any()) else reasons[0]
    if len(known) == 1 and frozen is None:
        frozen, free = "all of its channels go together", torch.tensor([False])
    return ChannelGroup(slots[0].name, len(known), tuple(slots), free, frozen)
