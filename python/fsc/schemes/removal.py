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

import numpy as np
import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.channels.groups import ChannelGroup
from fsc.channels.labels import NONE
from fsc.channels.norms import filter_norms
from fsc.layers.moments import ACCUMULATOR
from fsc.networks import surgery
from fsc.progress import Progress
from fsc.schemes.readers import Reader, gather
from fsc.solvers.closed_form import ClosedForm, damping_strength
from fsc.solvers.elimination import Elimination

# A group loses its channels in so many rounds: of a few channels one, of many some at once.
ROUNDS = 64
# How often, on the way, the loss is measured on images that no correction has seen.
JUDGEMENTS = 16


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

    Every layer that mixes channels has a say, of whatever kind: a grouped one solves each of its
    groups, whose errors add. Those that hold some channels more often than others have none, nor
    have those that read what no image decides, such as a table of positions; where nobody has,
    channels go by the squared norm of the filters that write them.

    Args:
        model: the teacher; it is not changed. The Gram matrices of all readers are held at once.
        groups: its channel groups.
        images: normalised images [N, C, H, W].
        least: name of each group that may lose channels -> how many stay at least, above 0.
        batch_size: images that go through the network at once.
        damping: pull towards the teacher's weight, in images; see `ClosedForm`. The method's own
            solver may take another: on ResNet-56 at half of the multiply-accumulates (five images a
            class, seeds 0 to 3, 2,000 test images) one of 1.5 gave 89.0 % on channels chosen with
            15 and 89.3 % on those chosen with 1.5, one of 150 gave 89.2 % and with 150 89.0 %;
            draws differ by more.
        progress: called with ("choosing channels, layer", groups of channels done, groups in all).

    Returns:
        name of each group of `least` -> what it costs.
    """
    folded = copy.deepcopy(model).eval()
    surgery.fold_batch_norm(folded)
    wanted = [group for group in groups if group.name in least]
    readers = {name for group in wanted for name in group.named("reader")}
    inputs = gather(folded, readers, images, batch_size)
    return ranks.first(lambda: _by_group(folded, wanted, inputs, least, damping, progress))


def _by_group(
    folded: nn.Module,
    wanted: Sequence[ChannelGroup],
    inputs: Mapping[str, Reader],
    least: Mapping[str, int],
    damping: float,
    progress: Progress | None,
) -> dict[str, Removal]:
    """What it costs each of the groups, on what their readers have read."""
    found = {}
    for done, group in enumerate(wanted):
        voters = [
            voter
            for name in dict.fromkeys(group.named("reader"))
            if name in inputs and (voter := _voter(inputs[name], group, name, damping)) is not None
        ]
        count = min(int(group.free.sum()), group.size - least[group.name])
        found[group.name] = (
            _removed(voters, group, count) if voters else _by_norm(folded, group, count)
        )
        if progress is not None:
            progress("choosing channels, layer", done + 1, len(wanted))
    return found


class _Voter:
    """A reader of a group that loses channels, and corrects itself for it."""

    def __init__(self, reader: Reader, channels: Tensor, rows: Tensor, damping: float) -> None:
        self.reader = reader
        self.channels = channels  # of the group, those that it reads, [read]
        self.rows = rows  # of the im2col, those of each of them, [read, s]
        # The groups of a grouped layer correct themselves one by one.
        quadratics = reader.correcting.quadratics(reader.weight)
        self.eliminations = [
            Elimination(
                weight,
                quadratic.damped_inverse(damping_strength(quadratic, damping)),
                rows,
            )
            for weight, quadratic in zip(reader.weight, quadratics, strict=True)
        ]
        # In shares of what correcting and judging images make of the output.
        self.unit = reader.correcting.energy(reader.weight)
        self.scale = reader.judge.energy(reader.weight)

    def rises(self, size: int) -> Tensor:
        """What taking out each channel of the group costs, [size]."""
        rises = torch.zeros(size, dtype=ACCUMULATOR, device="cpu")
        costs = torch.stack([each.rises() for each in self.eliminations]).sum(0)
        rises[self.channels] = costs.cpu() / self.unit
        return rises

    def remove(self, channels: Tensor) -> None:
        """Takes some channels out where they are read."""
        places = torch.isin(self.channels, channels).nonzero().flatten()
        if len(places):
            for each in self.eliminations:
                each.remove(places.to(self.rows.device))

    def loss(self) -> float:
        """The squared error of the corrected output on the judging images, in shares of it."""
        corrected = torch.stack([each.weight.T for each in self.eliminations])
        return self.reader.judge.squares(corrected - self.reader.weight) / self.scale


def _voter(reader: Reader, group: ChannelGroup, name: str, damping: float) -> _Voter | None:
    """A reader ready to lose channels.

    None where it holds some more often than others, or where its output is one value throughout.
    """
    patch = reader.correcting.patch
    columns = next(s.channels for s in group.slots if s.name == name and s.role == "reader")
    # The groups of a layer read the same channels at the same places: see those of the first.
    columns = columns[: patch.in_channels]
    channels, counts = columns[columns != NONE].unique(return_counts=True)
    if bool((counts != counts[0]).any()) or not reader.varies:
        return None
    # [read, columns of a channel]: the input channels of the layer that each channel is.
    places = torch.where(columns == NONE, group.size, columns).argsort(stable=True)
    places = places[: int(counts.sum())].view(len(channels), -1)
    within = torch.arange(patch.group_size, device="cpu")
    rows = (places[:, :, None] * patch.group_size + within).flatten(1)
    return _Voter(reader, channels, rows.to(reader.weight.device), damping)


def _removed(voters: Sequence[_Voter], group: ChannelGroup, count: int) -> Removal:
    """Takes `count` channels out of all readers, the cheapest first, of many some at once."""
    stays = _Staying(group)
    order, judged = torch.empty(0, dtype=torch.int64, device="cpu"), [(0, 0.0)]
    at_once, between = max(1, group.size // ROUNDS), max(1, count // JUDGEMENTS)
    while len(order) < count:
        rises = torch.stack([voter.rises(group.size) for voter in voters]).sum(0)
        cheapest = stays.take(rises, min(at_once, count - len(order)))
        if not len(cheapest):
            break
        for voter in voters:
            voter.remove(cheapest)
        order = torch.cat([order, cheapest])
        if len(order) >= judged[-1][0] + between or len(order) == count:
            judged.append((len(order), sum(voter.loss() for voter in voters)))
    return Removal(order, _between(judged, len(order)))


def _between(judged: Sequence[tuple[int, float]], count: int) -> Tensor:
    """The losses that were judged, and straight lines between them, [count + 1]; none falls."""
    at, losses = zip(*judged, strict=True)
    line = np.interp(range(count + 1), at, np.maximum.accumulate(losses))
    return torch.from_numpy(line)


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
        return torch.tensor(taken, dtype=torch.int64, device="cpu")


def _by_norm(model: nn.Module, group: ChannelGroup, count: int) -> Removal:
    """Where no reader can be asked: the share of the squared norm of the filters."""
    energy = filter_norms(model, group, 2)
    order = _Staying(group).take(energy, count)
    shares = energy[order].cumsum(0) / energy.sum().clamp(min=1e-30)
    return Removal(order, torch.cat([shares.new_zeros(1), shares]))
