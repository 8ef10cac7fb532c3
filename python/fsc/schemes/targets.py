"""From a share of the cost that is to stay to a scheme: how many channels of each group stay."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
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
from fsc.schemes.structured import Scheme
from fsc.schemes.styles import pruned
from fsc.schemes.trade import Trade
from fsc.solvers.closed_form import Selection

# No group loses more than nine of ten channels: what is left of it must carry all that it did.
FLOOR = 0.1
# Much less than was asked for: a tenth of it less, or where more than half was, of one half.
MISS = 0.1


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

    @property
    def tolerance(self) -> float:
        """How much less than the share may stay before it is told, as a share of the whole."""
        return MISS * min(self.share, 0.5)

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
) -> tuple[Scheme, dict[str, Removal], str | None]:
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
        The scheme, what removing channels costs each group that it may cut, and what to tell
        where much less stays than is to, else None.

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
        raise ValueError(f"{target.kind}: {nothing_to_prune(ignored, stuck)}")
    removal = removals(model, groups, images, least, batch_size=batch_size, progress=progress)
    orders = {
        name: each.order if selection == "obs" else largest_first(model, by_name[name]).flip(0)
        for name, each in removal.items()
    }
    cut_cost = CutCost(model, images[:1], groups, orders)
    # What is no layer with a weight, such as the products of attention, costs what it costs.
    fixed = cost.flops(model, images[:1]) - cut_cost.size({}, {}).flops
    fixed = fixed if target.kind == "flops" else 0
    found = allocate(target, cut_cost, fixed, removal, stuck, _sparing(target, ignored, style))
    kept = {}
    for name, count in found.left.items():
        group = by_name[name]
        layer = group.widest()
        channels, repeats = group.rows_of(layer)
        kept[layer] = (len(channels) - (group.size - count)) * repeats
    return Scheme(target.name, kept, held_back=stuck), removal, found.doubt


def _sparing(target: Target, ignored: Ignored, style: Style) -> list[str]:
    """The arguments that leave channels alone, as they were given."""
    spared = [f"ignored={in_words(ignored)}"] if ignored else []
    spared += [f"round_to={target.round_to}"] if target.round_to > 1 else []
    return spared + ([f"style={style}"] if style != "residual" else [])


@dataclass(frozen=True)
class Allocation:
    """How a share of the cost was met.

    Attributes:
        left: name of each group that loses channels -> how many stay.
        doubt: what to tell where much less stays than was asked for, else None.
    """

    left: dict[str, int]
    doubt: str | None = None


def allocate(
    target: Target,
    cut_cost: CutCost,
    fixed: int,
    removal: Mapping[str, Removal],
    stuck: Mapping[str, str],
    spared: Sequence[str] = (),
) -> Allocation:
    """How many channels of each group stay so that a share of the cost stays.

    Where the last channels to go leave much less than the share, the group that they are of is
    spared and others go in their place, if that reaches the share and loses less.

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
    whole = getattr(cut_cost.size({}, {}), target.kind) + fixed
    goal, near = target.share * whole, (target.share - target.tolerance) * whole
    trade = best = Trade(target.kind, whole, cut_cost, removal, target.round_to)
    if not trade.reach(goal):
        raise ValueError(_too_much_stays(target, trade.stays / whole, stuck, spared))
    while trade.stays < near:
        trade = trade.without_last()
        if not trade.reach(goal):
            break
        best = min(best, trade, key=lambda each: each.loss)
    sizes = {name: group.size for name, group in cut_cost.groups.items()}
    left = {name: count for name, count in best.left.items() if count < sizes[name]}
    return Allocation(left, _much_less_stays(target, best, whole) if best.stays < near else None)


def _too_much_stays(
    target: Target, reached: float, stuck: Mapping[str, str], spared: Sequence[str]
) -> str:
    least = math.ceil(1000 * reached) / 1000
    beside = f" with {', '.join(spared)}" if spared else ""
    why = unexpected(stuck)
    return (
        f"{target.kind} must be at least {least:.3f} for this model{beside}: all that may go is "
        f"gone then, got {target.share:g}" + (f"; {commonest(in_sentences(why))}" if why else "")
    )


def _much_less_stays(target: Target, trade: Trade, whole: int) -> str:
    """What is told: the channels that would take the least to come back, and what may help."""
    name, price = trade.next_back()
    group = trade.cut_cost.groups[name]
    layer = group.widest()
    at_once = trade.units[name] * group.rows_of(layer)[1]
    share, more = trade.stays / whole, price / whole
    larger = math.ceil(1000 * (share + more)) / 1000
    what = "multiply-accumulates" if target.kind == "flops" else "parameters"
    helps = [f"{target.kind}={larger:.3f}"] if larger < 1 else []
    helps += [f"ignored=[{layer!r}]"]
    helps += ["a smaller round_to"] if target.round_to > 1 else []
    return (
        f"{target.kind} leaves {share:.3f} of the {what}, where {target.share:g} was asked for: "
        f"channels of {layer!r} go {at_once} at once, and {at_once} more of them would be "
        f"{more:.3f}; {' or '.join(helps)} may come closer"
    )


def _most(group: ChannelGroup) -> int:
    """How many channels of a group may go."""
    free = int(group.free[group.rows_of(group.widest())[0]].sum())
    return min(free - 1, math.floor((1 - FLOOR) * group.size))
