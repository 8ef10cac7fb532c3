"""Structured schemes: how many output channels each layer keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from fsc.networks.channels import ChannelGroup, group_written_by
from fsc.networks.proof import channel_groups
from fsc.networks.wrappers import unwrap
from fsc.schemes.convolutions import check_ignored, check_shares


@dataclass(frozen=True)
class Scheme:
    """How many output channels a network keeps.

    Attributes:
        name: what reports call it.
        kept: name of each pruned layer -> number of its output channels that stay. What goes with
            them, such as the layers that are added to it, is not named.
    """

    name: str
    kept: dict[str, int]


def structured(
    model: nn.Module,
    pruning_ratio: float | Mapping[str, float],
    example_inputs: Tensor | tuple[Tensor, ...],
    ignored: Collection[str] = (),
) -> Scheme:
    """Remove a share of all channels that can go, each with what must go with it.

    Channels that are added, multiplied or normalised together go together: see
    `fsc.networks.channels`. The squeeze of a gate, which costs little and decides much, stays whole
    unless it is named.

    Args:
        model: the network.
        pruning_ratio: share of the channels to remove, at least 0 and below 1, or name of each
            layer to prune -> its share; the number that stays is rounded, and at least one stays.
        example_inputs: what the network takes; one image is enough.
        ignored: names of layers that stay whole, with all that would go with them.

    Raises:
        ValueError: a ratio outside [0, 1), a name that is no layer that can lose channels, or
            nothing to prune; then with the reasons.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
        >>> structured(network, 0.5, torch.zeros(1, 3, 8, 8)).kept
        {'0': 2}
    """
    model = unwrap(model)
    check_ignored("structured", ignored, model)
    check_shares("structured", pruning_ratio)
    groups = channel_groups(model, example_inputs)
    if isinstance(pruning_ratio, Mapping):
        shares = dict(pruning_ratio)
        for name in shares:
            _group_of(name, model, groups)
        name = "structured"
    else:
        shares = {g.name: pruning_ratio for g in groups if g.frozen is None and not g.is_gate}
        name = f"structured-{round(100 * pruning_ratio, 4):g}"
    whole = [set(group.named("writer")) & set(ignored) for group in groups]
    kept = {}
    for layer, share in shares.items():
        group = _group_of(layer, model, groups)
        if not whole[groups.index(group)]:
            kept[layer] = _rows_left(group, layer, share)
    if not kept:
        raise ValueError(f"structured: {_nothing(groups, ignored)}")
    return Scheme(name, kept)


def _rows_left(group: ChannelGroup, layer: str, share: float) -> int:
    """How many of the rows of a layer stay where a share of those that can go goes."""
    channels, repeats = group.rows_of(layer)
    free = int(group.free[channels].sum())
    left = max(round(free * (1 - share)), int(free == len(channels)))
    return (len(channels) - free + left) * repeats


def channels_left(
    scheme: Scheme, model: nn.Module, groups: Sequence[ChannelGroup]
) -> dict[str, int]:
    """How many channels of each group a scheme keeps: {name of the group: count}.

    Raises:
        ValueError: the scheme is empty, a layer does not exist or writes no channels that can go, a
            count is no integer, below one or above the output channels that there are, or two
            layers whose channels go together are to keep different numbers.
    """
    if not scheme.kept:
        raise ValueError(f"scheme {scheme.name!r} prunes no layer")
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
        raise ValueError(f"layer {layer!r} must keep 1 to {rows} output channels, got {count!r}")
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
        raise ValueError(f"layer {layer!r} must be one that makes channels, got {found}")
    carried = [group.name for group in groups if layer in group.named("carrier")]
    if carried:
        raise ValueError(
            f"layer {layer!r} must make channels of its own, but it is depthwise: its channels go "
            f"with those of {carried[0]!r}"
        )
    raise ValueError(f"layer {layer!r} must be called by the network, and once, for that")


def _nothing(groups: Sequence[ChannelGroup], ignored: Collection[str]) -> str:
    """Why there is nothing to prune, the commonest reason first."""
    frozen = [group for group in groups if group.frozen is not None]
    counted: dict[str, list[str]] = {}
    for group in frozen:
        counted.setdefault(str(group.frozen), []).append(group.name)
    reasons = sorted(counted.items(), key=lambda item: -len(item[1]))
    told = "; ".join(f"{names[0]!r} ({len(names)} in all): {text}" for text, names in reasons)
    return (
        f"model must have channels that can go, but of {len(groups)} groups {len(frozen)} cannot"
        + (f", {told}" if told else "")
        + (f"; ignored holds {', '.join(sorted(ignored))}" if ignored else "")
    )
