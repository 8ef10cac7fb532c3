"""From a share of the cost that is to stay to a scheme: how many channels of each group stay."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fsc.channels.cut_cost import CutCost, Kind
from fsc.channels.groups import ChannelGroup
from fsc.channels.norms import largest_first
from fsc.networks import cost
from fsc.progress import Progress
from fsc.scheme_tables import Style
from fsc.schemes.ignoring import Ignored, in_words
from fsc.schemes.reasons import commonest, in_sentences, nothing_to_prune
from fsc.schemes.removal import Removal, removals
from fsc.schemes.staying import ignored_in, staying, unexpected
from fsc.schemes.structured import Scheme, unit_of
from fsc.schemes.styles import pruned
from fsc.solvers.closed_form import Selection

# No group loses more than nine of ten channels: what is left of it must carry all that it did.
FLOOR = 0.1
# Steps of a group from all of its channels to none, until the target is near.
STEPS = 50


@dataclass(frozen=True)
class Target:
    """What is to stay of a network.

    Args:
        kind: what is counted, "flops" or "parameters".
        share: that is to stay, above 0 and at most 1.
        round_to: layers keep a multiple of so many channels, at least 1.

    Raises:
        ValueError: a value is out of its range.
    """

    kind: Kind
    share: float
    round_to: int = 1

    @property
    def name(self) -> str:
        """What reports call it."""
        return f"{self.kind}-{self.share:g}"

    def __post_init__(self) -> None:
        """Refuses what no network can be cut to."""
        if not 0 < self.share <= 1:
            raise ValueError(f"{self.kind} must be above 0 and at most 1, got {self.share}")
        if self.round_to < 1:
            raise ValueError(f"round_to must be at least 1, got {self.round_to}")


def to_target(
    model: nn.Module,
    images: Tensor,
    target: Target,
    groups: Sequence[ChannelGroup],
    left_alone: Collection[str] = (),
    *,
    ignored: Ignored = (),
    style: Style = "residual",
    selection: Selection = "obs",
    batch_size: int = 64,
    progress: Progress | None = None,
) -> tuple[Scheme, dict[str, Removal]]:
    """Cut a network to a share of its cost, the channels first that lose least for what they save.

    Args:
        model: the teacher, in plain modules.
        images: normalised images [N, C, H, W], on which the losses are measured.
        target: what is to stay.
        groups: of the teacher.
        left_alone: names of layers that keep all channels that they make; the squeezes of gates
            do, too.
        ignored: how the user called them, for the sentence.
        style: which channels may go, see `fsc.schemes.styles`.
        selection: how the method will choose channels, by what their removal costs or by the norm
            of their filters. Where layers hold different parts of a group it decides what a cut
            saves.
        batch_size: images that go through the network at once.
        progress: told of the groups that are done.

    Returns:
        The scheme, and what removing channels costs each group that it may cut.

    Raises:
        ValueError: nothing may go, or even with all that may go gone more stays than is to.
    """
    least = {
        group.name: group.size - _most(group)
        for group in pruned(target.kind, style, groups)
        if ignored_in(group, left_alone) is None
    }
    by_name = {group.name: group for group in groups}
    stuck = staying(model, groups, left_alone, style)
    if not least:
        raise ValueError(f"{target.kind}: {nothing_to_prune(groups, ignored, stuck)}")
    removal = removals(model, groups, images, least, batch_size=batch_size, progress=progress)
    orders = {
        name: each.order if selection == "obs" else largest_first(model, by_name[name]).flip(0)
        for name, each in removal.items()
    }
    cut_cost = CutCost(model, images[:1], groups, orders)
    # What is no layer with a weight, such as the products of attention, costs what it costs.
    fixed = cost.flops(model, images[:1]) - cut_cost.size({}, {}).flops
    fixed = fixed if target.kind == "flops" else 0
    left = allocate(target, cut_cost, fixed, removal, stuck, _sparing(target, ignored, style))
    kept = {}
    for name, count in left.items():
        group = by_name[name]
        layer = group.widest()
        channels, repeats = group.rows_of(layer)
        kept[layer] = (len(channels) - (group.size - count)) * repeats
    return Scheme(target.name, kept, held_back=stuck), removal


def _sparing(target: Target, ignored: Ignored, style: Style) -> list[str]:
    """The arguments that leave channels alone, as they were given."""
    spared = [f"ignored={in_words(ignored)}"] if ignored else []
    spared += [f"round_to={target.round_to}"] if target.round_to > 1 else []
    return spared + ([f"style={style}"] if style != "residual" else [])


class _Trade:
    """How many channels of each group stay, and what it costs to let the next ones go.

    Args:
        target: what is to stay.
        cut_cost: what counts it.
        removal: what each group loses, channel by channel.
    """

    def __init__(self, target: Target, cut_cost: CutCost, removal: Mapping[str, Removal]) -> None:
        self.target, self.cut_cost, self.removal = target, cut_cost, removal
        self.left = {name: cut_cost.groups[name].size for name in removal}
        self.units = {name: unit_of(cut_cost.groups[name], target.round_to) for name in removal}
        self.coarse = True
        self.prices: dict[str, float] = {}
        # How many channels stay after the next step, and what it saves.
        self.steps: dict[str, tuple[int, int]] = {}
        self.reprice(removal)

    def refine(self) -> None:
        """From now on goes in the smallest steps."""
        self.coarse = False
        self.reprice(self.removal)

    def saving(self, name: str) -> int:
        return self.steps[name][1]

    def _step(self, name: str) -> tuple[int, int]:
        """The next step to a multiple of the group's unit, or the first one after it that saves.

        Channels that no layer with a cost holds save nothing by themselves, those behind them do.
        """
        size, unit = self.cut_cost.groups[name].size, self.units[name]
        step = unit * (max(1, round(size / (STEPS * unit))) if self.coarse else 1)
        left, least = self.left[name] - step, size + 1 - len(self.removal[name].loss)
        left += (-left) % unit
        while True:
            saved = self.cut_cost.saved(self.target.kind, self.left, name, max(left, least))
            if saved > 0 or left - unit < least:
                return left, saved
            left -= unit

    def cheapest(self) -> str | None:
        name = min(self.prices, key=self.prices.__getitem__, default=None)
        return None if name is None or self.prices[name] == math.inf else name

    def take(self, name: str) -> None:
        """Lets the next channels of a group go."""
        self.left[name] = self.steps[name][0]
        touched = set(self.cut_cost.touched[name])
        self.reprice(other for other in self.prices if touched & set(self.cut_cost.touched[other]))

    def give_back(self, room: float) -> None:
        """Takes channels back where they are worth most for what they cost, until none fits."""
        while True:
            best, worth, cost = "", -1.0, 0
            for name in self.left:
                size, loss = self.cut_cost.groups[name].size, self.removal[name].loss
                more = min(size, self.left[name] + self.units[name])
                kept = {**self.left, name: more}
                price = self.cut_cost.saved(self.target.kind, kept, name, self.left[name])
                if more == self.left[name] or price > room:
                    continue
                regained = float(loss[size - self.left[name]] - loss[size - more])
                if regained / max(price, 1) > worth:
                    best, worth, cost = name, regained / max(price, 1), price
            if not best:
                return
            self.left[best] = min(
                self.cut_cost.groups[best].size, self.left[best] + self.units[best]
            )
            room -= cost

    def reprice(self, names: Iterable[str]) -> None:
        self.prices.update({name: self._price(name) for name in names})

    def _price(self, name: str) -> float:
        size, loss = self.cut_cost.groups[name].size, self.removal[name].loss
        left, saved = self.steps[name] = self._step(name)
        gone, then = size - self.left[name], size - left
        if then >= len(loss) or saved <= 0:
            return math.inf
        return float(loss[then] - loss[gone]) / saved


def allocate(
    target: Target,
    cut_cost: CutCost,
    fixed: int,
    removal: Mapping[str, Removal],
    stuck: Mapping[str, str],
    spared: Sequence[str] = (),
) -> dict[str, int]:
    """How many channels of each group stay so that a share of the cost stays.

    Args:
        target: the share.
        cut_cost: counts what a cut leaves.
        fixed: what the network costs beside what `cut_cost` counts.
        removal: of every group that may lose channels.
        stuck: name of each layer that stays whole -> why, for the sentence.
        spared: the arguments that leave channels alone, for the sentence.

    Raises:
        ValueError: even with all that may go gone, more stays; the sentence says how much.
    """
    trade = _Trade(target, cut_cost, removal)
    whole = getattr(cut_cost.size({}, {}), target.kind) + fixed
    left, goal = whole, target.share * whole
    while left > goal:
        name = trade.cheapest()
        if name is None and trade.coarse:
            trade.refine()
            continue
        if name is None:
            least = math.ceil(1000 * left / whole) / 1000
            beside = f" with {', '.join(spared)}" if spared else ""
            why = unexpected(stuck)
            raise ValueError(
                f"{target.kind} must be at least {least:.3f} for this model{beside}: all that may "
                f"go is gone then, got {target.share:g}"
                + (f"; {commonest(in_sentences(why))}" if why else "")
            )
        saved = trade.saving(name)
        if trade.coarse and left - saved < goal:
            trade.refine()
            continue
        trade.take(name)
        left -= saved
    trade.give_back(goal - left)
    return {name: count for name, count in trade.left.items() if count < cut_cost.groups[name].size}


def _most(group: ChannelGroup) -> int:
    """How many channels of a group may go."""
    free = int(group.free[group.rows_of(group.widest())[0]].sum())
    return min(free - 1, math.floor((1 - FLOOR) * group.size))
