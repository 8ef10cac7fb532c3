"""Channels as the graph of a network has them: what goes together, what stays, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsc.channels.labels import NONE, Labels
from fsc.channels.masked_norm import takes_all_channels
from fsc.channels.propagation import Propagation, Role, Side
from fsc.networks.out_of_place import stepping
from fsc.networks.tracing import shared_layers, trace


@dataclass(frozen=True)
class Slot:
    """What of a module or parameter belongs to a group.

    Attributes:
        name: of the module, of the bare parameter or of the size.
        role: "writer", "reader", "carrier" or "size".
        channels: for every index of the module's side the channel of the group that it belongs to,
            NONE where it belongs to another group, int64 [size].
        axis: of a bare parameter, the axis that is indexed; None for a module.
    """

    name: str
    role: Role
    channels: Tensor
    axis: int | None = None

    def mask(self, stays: Tensor) -> Tensor:
        """Which indices stay, bool [size], where of the group's channels those of a mask stay."""
        return stays[self.channels.clamp(min=0)] | (self.channels == NONE)


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that several layers share, each of which goes or stays as a whole.

    Attributes:
        name: of the first layer that writes them.
        size: number of channels; where several rows of a layer must go together, they are one.
        slots: what is indexed by them, writers first, in execution order.
        free: which of them may go, bool [size].
        frozen: why none may go, None where some may.
        held: why others may not where some may, None where all may.
        is_gate: whether they are the squeeze of a gate: one value an image each, of which factors
            for larger maps are made.
        is_normalised: whether a normalization takes statistics over all of them together, so that
            every layer behind it depends on which of them stay.
        order: the channels, those first that stay longest, int64 [size], where a scheme decides
            that; None: methods choose.
    """

    name: str
    size: int
    slots: tuple[Slot, ...]
    free: Tensor
    frozen: str | None
    held: str | None = None
    is_gate: bool = False
    is_normalised: bool = False
    order: Tensor | None = None

    def named(self, role: Role) -> list[str]:
        """The modules of a role, in execution order."""
        return [slot.name for slot in self.slots if slot.role == role]

    def mask(self, kept: Tensor) -> Tensor:
        """The numbers of channels that stay as bool [size]."""
        stays = torch.zeros(self.size, dtype=torch.bool, device="cpu")
        stays[kept.cpu()] = True
        return stays

    @property
    def is_even(self) -> bool:
        """Whether every layer holds all channels that may go, each equally often.

        What a cut costs then depends on how many of them go, not on which.
        """
        slots = [slot for slot in self.slots if slot.role != "size"]  # numbers cost nothing
        held = [slot.channels[slot.channels != NONE] for slot in slots]
        counts = torch.stack([each.bincount(minlength=self.size) for each in held])[:, self.free]
        return bool((counts == counts[:, :1]).all())

    def widest(self) -> str:
        """The writer that makes most of the channels that may go."""
        layers = self.named("writer")
        return max(layers, key=lambda layer: int(self.free[self.rows_of(layer)[0]].sum()))

    @property
    def rows_per_channel(self) -> Tensor:
        """Most rows that each channel is in any layer that writes it, int64 [size]."""
        writers = [slot.channels for slot in self.slots if slot.role == "writer"]
        counts = [held[held != NONE].bincount(minlength=self.size) for held in writers]
        return torch.stack(counts).amax(0)

    def rows_of(self, layer: str) -> tuple[Tensor, int]:
        """The channels that a layer writes, in order, and how many of its rows each of them is."""
        rows = next(s for s in self.slots if s.role == "writer" and s.name == layer).channels
        channels = rows.unique()
        return channels, len(rows) // len(channels)


def group_written_by(layer: str, groups: Sequence[ChannelGroup]) -> ChannelGroup | None:
    """The group of the channels that a layer writes, None where there is none."""
    return next((group for group in groups if layer in group.named("writer")), None)


def rows_left(groups: Sequence[ChannelGroup], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The output channels that stay of every layer that loses some.

    Args:
        groups: of the network.
        kept: name of each group that loses channels -> those that stay.

    Returns:
        name of the layer -> int64 [count].
    """
    left = {}
    for group in groups:
        if group.name not in kept:
            continue
        stays = group.mask(kept[group.name])
        for slot in group.slots:
            if slot.role == "writer" and not bool(slot.mask(stays).all()):
                left[slot.name] = slot.mask(stays).nonzero().flatten()
    return left


def columns_left(groups: Sequence[ChannelGroup], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Which inputs stay of every layer that reads channels of a group.

    Args:
        groups: of the network.
        kept: name of each group that loses channels -> those that stay.

    Returns:
        name of the layer -> bool [C_in].
    """
    left: dict[str, Tensor] = {}
    for group in groups:
        every = torch.arange(group.size, device="cpu")
        stays = group.mask(kept.get(group.name, every))
        for slot in group.slots:
            if slot.role == "reader":
                columns = slot.mask(stays)
                left[slot.name] = left.get(slot.name, torch.ones_like(columns)) & columns
    return left


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
    with stepping(model):
        pass_ = Propagation(model, graph, labels, shared_layers(model, graph))
        pass_.run(*example_inputs)
    groups = _grouped(pass_.all_sides(), labels, pass_.pixels)
    norms = {name for name, module in model.named_modules() if takes_all_channels(module)}
    return [
        replace(group, is_normalised=not norms.isdisjoint(group.named("carrier")))
        for group in groups
    ]


def _grouped(
    sides: Sequence[Side], labels: Labels, pixels: Mapping[str, int]
) -> list[ChannelGroup]:
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
        found = torch.tensor([numbers[label] for label in side.labels.tolist()], device="cpu")
        together.join(found[:1].expand_as(found), found)
    members: dict[int, list[int]] = {}
    for label, number in numbers.items():
        members.setdefault(together.root(number), []).append(label)
    known = [torch.tensor(sorted(classes), device="cpu") for classes in members.values()]
    slots = _slots(known, sides)
    return _with_gates([_group(*pair, labels) for pair in zip(known, slots, strict=True)], pixels)


def _slots(known: Sequence[Tensor], sides: Sequence[Side]) -> list[list[Slot]]:
    """For each group, of which the labels are known, what of every side belongs to it."""
    # Layers that are called twice write nothing: where all are there are no sides.
    size = 2 + max((int(side.labels.max()) for side in sides), default=NONE)
    owners, places = (torch.full((size,), NONE, device="cpu") for _ in range(2))  # NONE at the end
    for number, labels in enumerate(known):
        owners[labels] = number
        places[labels] = torch.arange(len(labels), device="cpu")
    slots: list[list[Slot]] = [[] for _ in known]
    for side in sides:
        found, channels = owners[side.labels], places[side.labels]
        for number in found[found != NONE].unique().tolist():
            own = torch.where(found == number, channels, NONE)
            slots[number].append(Slot(side.name, side.role, own, side.axis))
    return slots


def _with_gates(groups: list[ChannelGroup], pixels: Mapping[str, int]) -> list[ChannelGroup]:
    """Marks what is made of one value an image, and is read only to make factors of larger maps."""

    def largest(group: ChannelGroup | None) -> int:
        return 1 if group is None else max(pixels[name] for name in group.named("writer"))

    return [
        replace(
            group,
            is_gate=largest(group) == 1
            and bool(group.named("reader"))
            and all(
                pixels[reader] == 1 < largest(group_written_by(reader, groups))
                for reader in group.named("reader")
            ),
        )
        for group in groups
    ]


def _is_even(slot: Slot) -> bool:
    """Whether every channel of a writer is equally many rows of it."""
    counts = slot.channels[slot.channels != NONE].unique(return_counts=True)[1]
    return slot.role != "writer" or bool((counts == counts[0]).all())


def _group(known: Tensor, slots: list[Slot], labels: Labels) -> ChannelGroup:
    """One group of classes, whose labels stand as the first writer has them."""
    slots.sort(key=lambda slot: slot.role != "writer")
    reasons = [labels.reason(label) for label in known.tolist()]
    free = torch.tensor([reason is None for reason in reasons], device="cpu")
    frozen = None if bool(free.any()) else reasons[0]
    if frozen is None and len(known) == 1:
        frozen = "all of its channels go together, and one at least must stay"
    elif frozen is None and not all(_is_even(slot) for slot in slots):
        frozen = (
            "some of its channels are more rows of a layer than others, so that no number of rows "
            "says which go"
        )
    free = free & (frozen is None)
    held = None if frozen else next(filter(None, reasons), None)
    return ChannelGroup(slots[0].name, len(known), tuple(slots), free, frozen, held)
