"""What it costs to remove channels: all layers that read them asked together, on the teacher alone.

A reader with weight W sees inputs of Gram matrix H. Without the rows g of a channel, the others
corrected, its output errs by tr(W_g (H^-1_gg)^-1 W_g^T), which is divided by the energy of that
output around its mean. The readers' shares are added, the cheapest channel goes, and so on: group
optimal brain surgery (Hassibi and Stork 1993) over several layers. See `fsc.solvers.elimination`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fsc_ext
from fsc.channels.groups import ChannelGroup
from fsc.channels.labels import NONE
from fsc.channels.norms import filter_norms
from fsc.images.checks import device_of
from fsc.layers.layer_problem import joined
from fsc.layers.moments import ACCUMULATOR
from fsc.networks import surgery
from fsc.networks.modes import evaluation_mode
from fsc.progress import Progress
from fsc.solvers.closed_form import ClosedForm, damping_strength
from fsc.solvers.elimination import Elimination
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import FactoredQuadratic, GramQuadratic, Quadratic

# A group loses its channels in so many rounds: of a few channels one, of many some at once.
ROUNDS = 64


@dataclass(frozen=True)
class Removal:
    """What it costs to remove channels of one group, the cheapest first.

    Attributes:
        order: channels in the order in which they go, int64 [removable].
        loss: what is lost once the first i of them went, in shares of the energy of each reader,
            added over readers, float64 [removable + 1]; it never falls.
    """

    order: Tensor
    loss: Tensor


def removals(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    images: Tensor,
    least: Mapping[str, int],
    *,
    batch_size: int = 64,
    damping: float = ClosedForm.damping,
    progress: Progress | None = None,
) -> dict[str, Removal]:
    """Remove channels of each group by itself, the cheapest for all of its readers first.

    Readers that moments cannot express, and those that hold some channels more often than others,
    have no say; where nobody has, channels go by the squared norm of the filters that write them.

    Args:
        model: the teacher; it is not changed. The Gram matrices of all readers are held at once.
        groups: its channel groups.
        images: normalised images [N, C, H, W].
        least: name of each group that may lose channels -> how many stay at least, above 0.
        batch_size: images that go through the network at once.
        damping: pull towards the teacher's weight, in images; see `ClosedForm`.
        progress: called with ("removal", groups done, groups in all).

    Returns:
        name of each group of `least` -> what it costs.
    """
    folded = copy.deepcopy(model).eval()
    surgery.fold_batch_norm(folded)
    wanted = [group for group in groups if group.name in least]
    inputs = _gather(folded, wanted, images, batch_size)
    found = {}
    for done, group in enumerate(wanted):
        voters = [
            voter
            for name in dict.fromkeys(group.named("reader"))
            if name in inputs and (voter := _voter(inputs[name], group, name, damping)) is not None
        ]
        count = min(int(group.free.sum()) - 1, group.size - least[group.name])
        found[group.name] = (
            _removed(voters, group, count) if voters else _by_norm(folded, group, count)
        )
        if progress is not None:
            progress("removal", done + 1, len(wanted))
    return found


class _Inputs:
    """What one layer of the teacher reads: a Gram matrix, or columns where these are fewer."""

    def __init__(self, layer: nn.Conv2d | nn.Linear, num_columns: int) -> None:
        self.patch = Patch.of(layer)
        self.weight = joined(layer.weight, layer.bias)  # [C_out, dim]
        self.num_images = 0
        self.columns: list[Tensor] = []  # [dim, columns of the batch] each
        dim = self.patch.dim
        self.gram = None if num_columns < dim else self.weight.new_zeros(dim, dim)

    def accumulate(self, features: Tensor, num_images: int) -> None:
        """Takes up one batch, [N, C_in, H, W] or [N, C_in], of so many images."""
        self.num_images += num_images
        if self.gram is None:
            self.columns.append(self.patch.columns(features).to(ACCUMULATOR))
            return
        geometry = {
            name: getattr(self.patch, name)
            for name in ("kernel_size", "stride", "padding", "dilation")
        }
        fsc_ext.gram_accumulate_(self.gram, None, None, features, None, **geometry)

    def quadratic(self) -> Quadratic:
        """The squared error of the layer's output, whose minimiser is the teacher's weight."""
        if self.gram is None:
            columns = torch.cat(self.columns, 1)
            return FactoredQuadratic(columns, self.weight @ columns, self.num_images)
        target = self.weight @ self.gram
        return GramQuadratic(self.gram, target, (target * self.weight).sum(1), self.num_images)

    def energy(self, quadratic: Quadratic) -> float:
        """The squared output of the layer, around its mean where it has a bias."""
        energy = quadratic.row_losses(torch.zeros_like(self.weight)).sum()
        if self.patch.bias:
            # The last row of U is ones: W U 1 and the number of columns stand in the Gram matrix.
            last = self.patch.dim - 1
            sums, count = self._sums(last)
            energy -= sums.square().sum() / count
        return float(energy)

    def _sums(self, last: int) -> tuple[Tensor, float]:
        if self.gram is None:
            columns = torch.cat(self.columns, 1)
            return (self.weight @ columns).sum(1), columns.shape[1]
        return self.weight @ self.gram[:, last], float(self.gram[last, last])


@dataclass
class _Voter:
    """One reader of a group: the state of its elimination, and what a unit of loss is."""

    elimination: Elimination
    energy: float
    channels: Tensor  # of the group, those that it reads, [read]

    def rises(self, size: int) -> Tensor:
        """What taking out each channel of the group costs, in shares of the energy, [size]."""
        rises = torch.zeros(size, dtype=ACCUMULATOR, device="cpu")
        rises[self.channels] = self.elimination.rises().cpu() / self.energy
        return rises

    def remove(self, channels: Tensor) -> float:
        """Takes some channels out where they are read; returns what that costs."""
        places = torch.isin(self.channels, channels).nonzero().flatten()
        if not len(places):
            return 0.0
        return self.elimination.remove(places.to(self.elimination.groups.device)) / self.energy


def _voter(inputs: _Inputs, group: ChannelGroup, name: str, damping: float) -> _Voter | None:
    """A reader ready to lose channels; None where it holds some more often than others."""
    weight, patch = inputs.weight, inputs.patch
    columns = next(s.channels for s in group.slots if s.name == name and s.role == "reader")
    channels, counts = columns[columns != NONE].unique(return_counts=True)
    quadratic = inputs.quadratic()
    energy = inputs.energy(quadratic)
    if bool((counts != counts[0]).any()) or not energy > 0:
        return None
    # [read, columns of a channel]: the input channels of the layer that each channel is.
    places = torch.where(columns == NONE, group.size, columns).argsort(stable=True)
    places = places[: int(counts.sum())].view(len(channels), -1)
    within = torch.arange(patch.group_size, device="cpu")
    rows = (places[:, :, None] * patch.group_size + within).flatten(1).to(weight.device)
    inverse = quadratic.damped_inverse(damping_strength(quadratic, damping))
    return _Voter(Elimination(weight, inverse, rows), energy, channels)


def _removed(voters: Sequence[_Voter], group: ChannelGroup, count: int) -> Removal:
    """Takes `count` channels out of all readers, the cheapest first, of many some at once."""
    stays = _Staying(group)
    order, loss = torch.empty(0, dtype=torch.int64), torch.zeros(1, dtype=ACCUMULATOR)
    at_once = max(1, group.size // ROUNDS)
    while len(order) < count:
        rises = torch.stack([voter.rises(group.size) for voter in voters]).sum(0)
        cheapest = stays.take(rises, min(at_once, count - len(order)))
        if not len(cheapest):
            break
        rise = sum(max(voter.remove(cheapest), 0.0) for voter in voters)
        order = torch.cat([order, cheapest])
        steps = torch.arange(1, len(cheapest) + 1, dtype=ACCUMULATOR) / len(cheapest)
        loss = torch.cat([loss, loss[-1] + rise * steps])
    return Removal(order, loss)


class _Staying:
    """Which channels of a group may still go: every layer keeps one of those that it has."""

    def __init__(self, group: ChannelGroup) -> None:
        self.free = group.free.clone()
        held = [slot.channels[slot.channels != NONE].unique() for slot in group.slots]
        self.held = torch.zeros(len(held), group.size, dtype=torch.bool, device="cpu")
        for row, channels in zip(self.held, held, strict=True):
            row[channels] = True

    def take(self, costs: Tensor, count: int) -> Tensor:
        """The `count` cheapest that may go, or fewer; they are gone then."""
        taken: list[int] = []
        for channel in costs.masked_fill(~self.free, torch.inf).argsort(stable=True).tolist():
            if len(taken) == count or not self.free[channel]:
                break
            having = self.held[:, channel]
            self.free[channel] = False
            if bool((self.held[having].sum(1) > 1).all()):
                self.held[:, channel] = False
                taken.append(channel)
        return torch.tensor(taken, dtype=torch.int64)


def _by_norm(model: nn.Module, group: ChannelGroup, count: int) -> Removal:
    """Where no reader can be asked: the share of the squared norm of the filters."""
    energy = filter_norms(model, group, 2)
    order = _Staying(group).take(energy, count)
    shares = energy[order].cumsum(0) / energy.sum().clamp(min=1e-30)
    return Removal(order, torch.cat([shares.new_zeros(1), shares]))


def _gather(
    model: nn.Module, groups: Sequence[ChannelGroup], images: Tensor, batch_size: int
) -> dict[str, _Inputs]:
    """Run the network once and take up what every reader that moments can express reads."""
    found: dict[str, _Inputs] = {}

    def see(name: str, layer: Any, features: Tensor) -> None:
        count = len(features)
        if isinstance(layer, nn.Linear):
            pixels, features = features[0, ..., 0].numel(), features.flatten(0, -2)
        else:
            height, width = features.shape[2:]
            pixels = Patch.of(layer).num_columns((height, width))
        if name not in found:
            found[name] = _Inputs(layer, len(images) * pixels)
        found[name].accumulate(features, count)

    readers = {name for group in groups for name in group.named("reader")}
    handles = [
        layer.register_forward_pre_hook(
            lambda layer, inputs, named, name=name: see(
                name, layer, inputs[0] if inputs else named["input"]
            ),
            with_kwargs=True,
        )
        for name, layer in model.named_modules()
        if name in readers and _is_expressible(layer)
    ]
    try:
        with torch.no_grad(), evaluation_mode(model):
            for batch in images.split(batch_size):
                model(batch.to(device_of(model, images)))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _is_expressible(layer: nn.Module) -> bool:
    try:
        Patch.of(layer)
    except ValueError:
        return False
    return True
