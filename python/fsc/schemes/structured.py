"""Structured schemes: how many output channels each layer keeps."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from fsc.arguments import check_dict, check_text, python_integer
from fsc.channels.groups import ChannelGroup, group_written_by
from fsc.channels.proof import channel_groups
from fsc.images.joint import Inputs
from fsc.networks.calls import call_of
from fsc.networks.draws import check_same_each_time
from fsc.networks.entry import taken_in
from fsc.networks.plain import plain, plain_name
from fsc.networks.wrappers import unwrap
from fsc.scheme_tables import Style
from fsc.schemes.convolutions import as_shares
from fsc.schemes.ignoring import Ignored, ignored_layers
from fsc.schemes.reasons import nothing_to_prune
from fsc.schemes.staying import ignored_in, staying
from fsc.schemes.styles import check_style, pruned
from fsc.wording import shown

# That a sentence has room for.
_MOST_NAMES = 3


@dataclass(frozen=True)
class Scheme:
    """How many output channels a network keeps; schemes that keep the same are equal.

    Attributes:
        name: what reports call it.
        kept: name of each pruned layer -> number of its output channels that stay. What goes with
            them, such as the layers that are added to it, is not named.
        pruning_ratio: the share of all channels that was asked for; None where each layer has a
            number of its own.
        held_back: name of each layer that keeps all channels where a share of them all was to go
            -> why.
        chosen_by: who says which channels stay: the method, or the "scale" of the BatchNorms that
            they pass, see `fsc.schemes.slimming`.
    """

    name: str
    kept: dict[str, int]
    pruning_ratio: float | None = field(default=None, compare=False)
    held_back: dict[str, str] = field(default_factory=dict, compare=False)
    chosen_by: Literal["method", "scale"] = "method"

    def __post_init__(self) -> None:
        """Refuses what names no layers; whether a network has them is asked with the network."""
        check_text("name", self.name)
        check_dict("kept", self.kept)
        own = {layer: python_integer(number) for layer, number in self.kept.items()}
        object.__setattr__(self, "kept", own)


def structured(
    model: nn.Module,
    pruning_ratio: float | Mapping[str, float],
    example_inputs: Inputs,
    ignored: Ignored = (),
    round_to: int = 1,
    style: Style = "residual",
) -> Scheme:
    """Remove a share of all channels that can go, each with what must go with it.

    Channels that are added, multiplied or normalised together go together: see
    `fsc.channels.groups`. The squeeze of a gate, which costs little and decides much, stays whole
    unless it is named.

    Args:
        model: the network.
        pruning_ratio: share of the channels to remove, at least 0 and below 1, or name of each
            layer to prune -> its share; the number that stays is rounded, and at least one stays.
        example_inputs: what the network takes: a tensor, a tuple of arguments, or a dict; one image
            is enough.
        ignored: layers that keep all channels that they make, with all that would go with them:
            names, patterns such as "head*", types. They read fewer where those before them lose
            some.
        round_to: layers keep a multiple of so many channels, where they have as many; the nearest.
        style: "residual" prunes all channels that can go; "normal" only those that one layer alone
            makes, which lie inside residual blocks (MiR, Figure 1).

    Raises:
        ValueError: a ratio outside [0, 1), a name that is no layer that can lose channels or is
            ignored, an unknown style or one beside named layers, or nothing to prune; the sentence
            then has every reason.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
        >>> structured(network, 0.5, torch.zeros(1, 3, 8, 8)).kept
        {'0': 2}
    """
    shares = as_ratio("structured", pruning_ratio, style)
    given = unwrap(model)
    model, inputs, _ = taken_in("structured", model, example_inputs)
    check_same_each_time("structured", model, call_of(inputs))
    model = plain(model, inputs)
    left_alone = ignored_layers("structured", ignored, given, model)
    groups = channel_groups(model, inputs)
    asked: Any = {"ignored": ignored, "round_to": round_to, "style": style}
    return structured_of("structured", model, groups, shares, left_alone, **asked)


def as_ratio(
    function: str, pruning_ratio: float | Mapping[str, float], style: str
) -> float | dict[str, float]:
    """A ratio that says with a style what is to go, as `as_shares` has it, before any work.

    Raises:
        ValueError: a ratio outside [0, 1), none at all, or a style that is none or beside layers.
        TypeError: a ratio is no number.
    """
    shares = as_shares(function, pruning_ratio)
    if shares == {}:
        raise ValueError(f"{function}: pruning_ratio must name a layer, got none")
    check_style(function, style, isinstance(shares, dict))
    return shares


def structured_of(
    function: str,
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    pruning_ratio: float | Mapping[str, float],
    left_alone: Collection[str] = (),
    *,
    ignored: Ignored = (),
    round_to: int = 1,
    style: Style = "residual",
) -> Scheme:
    """`structured` for a network whose channel groups are known.

    Args:
        function: who asks, for the sentence.
        model: the network, in plain modules.
        groups: its channel groups.
        pruning_ratio: as `as_ratio` has it.
        left_alone: names of layers that keep all channels that they make.
        ignored: how the user called them, for the sentence.
        round_to: layers keep a multiple of so many channels.
        style: which channels are pruned.

    Raises:
        ValueError: a name is no layer that can lose channels, or is ignored, or there is nothing to
            prune.
    """
    ratio = None if isinstance(pruning_ratio, Mapping) else pruning_ratio
    stuck = {} if ratio is None else staying(model, groups, left_alone, style)
    if isinstance(pruning_ratio, Mapping):
        shares = {plain_name(model, name): share for name, share in pruning_ratio.items()}
    else:
        shares = dict.fromkeys((g.widest() for g in pruned(function, style, groups)), pruning_ratio)
    kept = {}
    for layer, share in shares.items():
        try:
            group = _group_of(layer, model, groups)
        except ValueError as error:
            raise ValueError(f"{function}: pruning_ratio: {error}") from error
        if share > 0 and group.frozen is not None:
            raise ValueError(
                f"{function}: pruning_ratio: layer {layer!r} must keep all channels: {group.frozen}"
            )
        by = ignored_in(group, left_alone)
        if by is None:
            kept[layer] = _rows_left(group, layer, share, round_to)
        elif ratio is None:
            with_it = "" if by == layer else f", whose channels go with those of {by!r}"
            raise ValueError(
                f"{function}: pruning_ratio must name no layer that is ignored, got {shown(layer)}"
                f"{with_it}"
            )
    if not kept:
        raise ValueError(f"{function}: {nothing_to_prune(ignored, stuck)}")
    name = "structured" if ratio is None else f"structured-{round(100 * ratio, 4):g}"
    return Scheme(name, kept, ratio, stuck)


def _rows_left(group: ChannelGroup, layer: str, share: float, round_to: int) -> int:
    """How many of the rows of a layer stay where a share of those that can go goes."""
    channels, repeats = group.rows_of(layer)
    if share == 0:
        return len(channels) * repeats
    free, unit = int(group.free[channels].sum()), unit_of(group, round_to)
    return count_left(len(channels), free, share, unit) * repeats


def count_left(count: int, free: int, share: float, unit: int) -> int:
    """How many of so many channels stay where a share of the free ones goes, in whole units."""
    # Rounded once: 59.52 of 64 channels are 56 in eights, and would be 64 by way of 60.
    rounded = max(round((count - free * share) / unit), 1) * unit
    return min(max(rounded, count - free), count)


def unit_of(group: ChannelGroup, round_to: int) -> int:
    """Channels that go at once so that each writer keeps a multiple of `round_to` rows."""
    repeats = [group.rows_of(layer)[1] for layer in dict.fromkeys(group.named("writer"))]
    return math.lcm(*(round_to // math.gcd(round_to, count) for count in repeats))


def channels_left(
    scheme: Scheme, model: nn.Module, groups: Sequence[ChannelGroup]
) -> dict[str, int]:
    """How many channels of each group a scheme keeps: {name of the group: count}.

    Raises:
        ValueError: a layer does not exist or writes no channels that can go, a
            count is no integer, below one or above the output channels that there are, or two
            layers whose channels go together are to keep different numbers.
    """
    left: dict[str, int] = {}
    for layer, count in scheme.kept.items():
        try:
            group = _group_of(layer, model, groups)
            size = _size_left(group, layer, count)
        except ValueError as error:
            raise ValueError(f"scheme {scheme.name!r}: {error}") from error
        if left.setdefault(group.name, size) != size:
            raise ValueError(
                f"scheme {scheme.name!r}: layer {layer!r} must keep as many channels as those that "
                f"go with them, {', '.join(group.named('writer'))}, got {count}"
            )
    return left


def _size_left(group: ChannelGroup, layer: str, count: object) -> int:
    channels, repeats = group.rows_of(layer)
    rows = len(channels) * repeats
    if type(count) is not int or not 1 <= count <= rows:
        raise ValueError(
            f"layer {layer!r} must keep 1 to {rows} output channels, got {shown(count)}"
        )
    if count < rows and group.frozen is not None:
        raise ValueError(f"layer {layer!r} must keep its {rows} channels: {group.frozen}")
    gone, rest = divmod(rows - count, repeats)
    if rest:
        raise ValueError(
            f"layer {layer!r} must lose a multiple of {repeats} channels, which go together, got "
            f"{rows - count}"
        )
    free = int(group.free[channels].sum())
    if gone > free:
        raise ValueError(
            f"layer {layer!r} must keep at least {(len(channels) - free) * repeats} of its {rows} "
            f"channels, which reach what cannot lose them, got {count}"
        )
    return group.size - gone


def _group_of(layer: str, model: nn.Module, groups: Sequence[ChannelGroup]) -> ChannelGroup:
    """The group that a layer writes.

    Raises:
        ValueError: there is no such layer, it makes no channels of its own, or the network never
            calls it.
    """
    group = group_written_by(layer, groups)
    if group is not None:
        return group
    module = dict(model.named_modules()).get(layer)
    if module is None or not hasattr(module, "weight") or module.weight.ndim < 2:
        found = "none" if module is None else type(module).__name__
        raise ValueError(
            f"layer {layer!r} must be one that makes channels, got {found}; such are "
            f"{_first([name for each in groups for name in each.named('writer')])}"
        )
    carried = [group.name for group in groups if layer in group.named("carrier")]
    if carried:
        raise ValueError(
            f"layer {layer!r} must make channels of its own, but it is depthwise: its channels go "
            f"with those of {carried[0]!r}"
        )
    raise ValueError(f"layer {layer!r} must be called by the network, and once, for that")


def _first(names: Sequence[str]) -> str:
    """The first names of some, and how many more there are."""
    rest = len(names) - _MOST_NAMES
    return ", ".join(map(repr, names[:_MOST_NAMES])) + (f" and {rest} more" if rest > 0 else "")
