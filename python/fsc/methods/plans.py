"""From a scheme to what each layer may keep."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from fsc.channels.groups import ChannelGroup, group_written_by
from fsc.channels.labels import NONE
from fsc.layers.layer_problem import Axis, Plan, Solution, all_channels
from fsc.methods.base import Task
from fsc.methods.l1_norm import largest_channels
from fsc.schemes import AnyScheme, Decoupling, DropBlocks, QuantizedScheme, SparseScheme
from fsc.schemes.removal import removals
from fsc.solvers.closed_form import Selection
from fsc.wording import shown

# Name of each layer of a scheme -> the output channels, or single weights, that stay.
Support = Mapping[str, Sequence[int]]


# Which channels of each of some groups stay.
Choose = Callable[[Sequence[ChannelGroup]], Mapping[str, Tensor]]


class Plans(Protocol):
    """What every layer may keep, and what it kept."""

    choosing: set[str]  # the layers that the scheme makes smaller on the side they solve for
    kept: dict[str, Tensor]  # the channels that stay of every group that loses some

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """What a layer may keep."""

    def remember(self, name: str, solution: Solution) -> None:
        """Takes down what a layer kept."""


class SparsePlans:
    """Single weights go; every layer keeps its shape."""

    def __init__(self, scheme: SparseScheme, support: Support | None) -> None:
        """Every layer of the scheme chooses, or keeps what is given."""
        self.counts = scheme.kept
        self.support = support
        self.choosing = set(scheme.kept)
        self.kept: dict[str, Tensor] = {}

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """All channels, and the weights or their number where the scheme names the layer."""
        if self.support is not None and name in self.support:
            channels = all_channels(layer)
            return Plan(channels, weights=channels.new_tensor(sorted(self.support[name])))
        return Plan(all_channels(layer), num_weights=self.counts.get(name))

    def remember(self, name: str, solution: Solution) -> None:
        """No channel went."""


class QuantizedPlans:
    """Weights are written on few bits; every layer keeps its shape."""

    def __init__(self, scheme: QuantizedScheme) -> None:
        """Every layer of the scheme is solved for."""
        self.bits = scheme.bits
        self.choosing = set(scheme.bits)
        self.kept: dict[str, Tensor] = {}

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """All channels, and the bits where the scheme names the layer."""
        return Plan(all_channels(layer), bits=self.bits.get(name))

    def remember(self, name: str, solution: Solution) -> None:
        """No channel went."""


class ChannelPlans:
    """Channels go, each with what must go with it.

    Where one solvable layer alone reads a group, each channel once and nothing else, that layer
    chooses among them while it is solved, or the one layer that writes them does, as `axis` says.
    All other channels are chosen before.

    Args:
        counts: name of each group that loses channels -> how many stay.
        groups: the teacher's.
        axis: on which side of a pruned channel the choice falls; None: no layer chooses.
        support: what stays, where it is given.
        choose: what stays of groups that no layer chooses from.
        solvable: names of the layers whose weights can be solved for.
    """

    def __init__(
        self,
        counts: Mapping[str, int],
        groups: Sequence[ChannelGroup],
        axis: Axis | None,
        support: Support | None,
        choose: Choose,
        solvable: Collection[str],
    ) -> None:
        """Finds who chooses, and chooses where nobody else does."""
        self.counts = counts
        self.kept = {} if support is None else _supported(groups, support)
        self.columns = _columns(groups)
        self.choosers: dict[str, ChannelGroup] = {}
        self.filtering: dict[str, ChannelGroup] = {}
        others = [
            group
            for group in groups
            if group.name in counts
            and group.name not in self.kept
            and not self._assign(group, axis, solvable)
        ]
        self.kept |= choose(others)
        self.readers = {name for g in groups if g.name in counts for name in g.named("reader")}
        self.choosing = (self.readers & set(solvable)) | set(self.filtering)
        # Gone from the start is what a layer reads that cannot be solved for, and what is left out
        # of a normalization.
        self.masked = {
            group.name: self.kept[group.name]
            for group in groups
            if group.name in self.kept
            and (group.is_normalised or not set(group.named("reader")) <= set(solvable))
        }

    def _assign(self, group: ChannelGroup, axis: Axis | None, solvable: Collection[str]) -> bool:
        """Whether a layer chooses from a group, where no scheme does; it is taken down."""
        readers = group.named("reader")
        alone = len(readers) == 1 and readers[0] in solvable and bool(group.free.all())
        # Which channels go must be known before where it decides what the cut costs.
        alone = alone and not group.is_normalised and group.is_even
        alone = alone and group.order is None
        if axis == "input_channels" and alone and self._is_whole(readers[0], group):
            self.choosers[readers[0]] = group
        elif axis == "output_filters" and alone and _is_written_once(group, solvable):
            self.filtering[group.name] = group
        else:
            return False
        return True

    def _is_whole(self, reader: str, group: ChannelGroup) -> bool:
        """Whether a layer reads every channel of a group once, and nothing else."""
        (_, channels), *others = self.columns[reader]
        return not others and len(channels) == group.size and bool((channels >= 0).all())

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """The channels that carry anything, and how many stay where the layer chooses."""
        channels = all_channels(layer)
        for group, columns in self.columns.get(name, ()):
            if group.name in self.kept:
                stays = group.mask(self.kept[group.name])
                usable = stays[columns.clamp(min=0)] | (columns == NONE)
                channels = channels[usable.to(channels.device)[channels]]
        reading, writing = self.choosers.get(name), self.filtering.get(name)
        return Plan(
            channels,
            num_channels=None if reading is None else self.counts[reading.name],
            num_filters=None if writing is None else self.counts[writing.name],
        )

    def remember(self, name: str, solution: Solution) -> None:
        """What a reader kept are the channels that its group keeps, and so for a writer."""
        if name in self.choosers:
            group = self.choosers[name]
            columns = self.columns[name][0][1]
            self.kept[group.name] = columns[solution.channels.cpu()].sort().values
        if name in self.filtering:
            group = self.filtering[name]
            self.kept[group.name] = group.slots[0].channels[solution.filters.cpu()].sort().values


def _is_written_once(group: ChannelGroup, solvable: Collection[str]) -> bool:
    """Whether one solvable layer writes every channel of a group in one row."""
    writers = [slot for slot in group.slots if slot.role == "writer"]
    alone = len(writers) == 1 and len(writers[0].channels) == group.size
    return alone and group.name in solvable


def _columns(groups: Sequence[ChannelGroup]) -> dict[str, list[tuple[ChannelGroup, Tensor]]]:
    """For every reader the groups that it reads, with the channel of each of its columns."""
    columns: dict[str, list[tuple[ChannelGroup, Tensor]]] = {}
    for group in groups:
        for slot in group.slots:
            if slot.role == "reader":
                columns.setdefault(slot.name, []).append((group, slot.channels))
    return columns


def _supported(groups: Sequence[ChannelGroup], support: Support) -> dict[str, Tensor]:
    """The channels of each group that stay, by the given output channels of a layer."""
    kept: dict[str, Tensor] = {}
    for layer, given in support.items():
        group = group_written_by(layer, groups)
        assert group is not None  # the scheme names the same layers
        rows = next(s.channels for s in group.slots if s.name == layer and s.role == "writer")
        stays = torch.ones(group.size, dtype=torch.bool, device="cpu")
        stays[rows] = False
        stays[rows[sorted(given)]] = True
        found = stays.nonzero().flatten()
        if not torch.equal(kept.setdefault(group.name, found), found):
            raise ValueError(
                f"support must keep the same channels of layers that share them, got others for "
                f"{layer!r} than for the layers before it"
            )
        if bool((~stays & ~group.free).any()):
            reason = group.frozen or "they reach what cannot lose them"
            raise ValueError(f"support must keep the channels of {layer!r} that stay: {reason}")
    return kept


def plans_of(
    task: Task,
    axis: Axis | None,
    support: Support | None,
    selection: Selection,
    teacher: nn.Module,
    solvable: Collection[str],
) -> Plans:
    """The plans of a task's scheme; `teacher` is the folded one.

    Raises:
        ValueError: the scheme does not fit the teacher, or the support does not go with it.
    """
    scheme = task.scheme
    if support is not None:
        _check_support(scheme, support, teacher)
    if isinstance(scheme, SparseScheme):
        return SparsePlans(scheme, support)
    if isinstance(scheme, QuantizedScheme):
        return QuantizedPlans(scheme)
    counts = task.channels_left()
    choose = partial(_chosen, task, counts, selection)
    return ChannelPlans(counts, task.groups, axis, support, choose, solvable)


def _chosen(
    task: Task, counts: Mapping[str, int], selection: Selection, groups: Sequence[ChannelGroup]
) -> dict[str, Tensor]:
    """The channels that stay of groups that several layers read, or none that can be solved for."""
    ordered = [group for group in groups if group.order is not None or selection == "norm"]
    kept = largest_channels(task.teacher, ordered, counts)
    groups = [group for group in groups if group.name not in kept]
    unknown = [group for group in groups if group.name not in task.removal]
    found = dict(task.removal)
    if unknown:
        least = {group.name: counts[group.name] for group in unknown}
        found |= removals(
            task.teacher,
            unknown,
            task.images,
            least,
            batch_size=task.batch_size,
            progress=task.progress,
        )
    for group in groups:
        stays = torch.ones(group.size, dtype=torch.bool, device="cpu")
        gone = group.size - counts[group.name]
        if len(found[group.name].order) < gone:
            raise ValueError(
                f"scheme {task.scheme.name!r}: {gone} channels of {group.name!r} must go, but then "
                "a layer would lose all of its own"
            )
        stays[found[group.name].order[:gone]] = False
        kept[group.name] = stays.nonzero().flatten()
    return kept


def _check_support(scheme: AnyScheme, support: Support, teacher: nn.Module) -> None:
    if isinstance(scheme, QuantizedScheme | DropBlocks | Decoupling):
        kind = "a quantized scheme" if isinstance(scheme, QuantizedScheme) else "whole layers"
        raise ValueError(f"support must be None for {kind}, got {len(support)} layers")
    if set(support) != set(scheme.kept):
        name = min(set(support) ^ set(scheme.kept))
        where = "only in the support" if name in support else "only in the scheme"
        raise ValueError(f"support must name the layers of the scheme, got {shown(name)} {where}")
    for name, given in support.items():
        weight = teacher.get_submodule(name).get_parameter("weight")
        size = weight.numel() if isinstance(scheme, SparseScheme) else len(weight)
        count = scheme.kept[name]
        inside = [index for index in given if type(index) is int and 0 <= index < size]
        if len(set(inside)) != count or len(given) != count:
            raise ValueError(
                f"support must hold {count} different integers in [0, {size}) for {name}, as the "
                f"scheme says, got {len(given)} values, {len(set(inside))} of them such"
            )
