"""Network slimming (Liu et al., ICCV 2017): one threshold for the scales of all BatchNorms."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from fsc.channels.groups import ChannelGroup
from fsc.channels.norms import batch_norm_scales, with_those_that_stay
from fsc.channels.proof import channel_groups
from fsc.images.joint import Inputs
from fsc.networks.calls import call_of
from fsc.networks.draws import check_same_each_time
from fsc.networks.entry import taken_in
from fsc.networks.plain import plain
from fsc.networks.wrappers import unwrap
from fsc.scheme_tables import Style
from fsc.schemes.convolutions import as_share
from fsc.schemes.ignoring import Ignored, ignored_layers
from fsc.schemes.reasons import nothing_to_prune
from fsc.schemes.staying import ignored_in, staying
from fsc.schemes.structured import Scheme
from fsc.schemes.styles import check_style, pruned
from fsc.wording import shown


def slimming(
    model: nn.Module,
    pruning_ratio: float,
    example_inputs: Inputs,
    ignored: Ignored = (),
    style: Style = "residual",
) -> Scheme:
    r"""Remove the channels whose BatchNorm scales are smallest in the whole network.

    .. math:: |\gamma_c| \le \theta, \quad \theta \text{ such that a share } r \text{ of all }
              |\gamma| \text{ is no larger}

    A channel that passes several BatchNorms, as those of a residual stream and of a DenseNet do,
    has the largest of their scales: it goes where none of them lets it through. Channels that pass
    none stay, and so does one of every layer. Methods then remove these channels and no others.

    The paper trains networks with a penalty on the scales before, see
    `fsc.training.supervised.train`; others can be slimmed, too.

    Args:
        model: the network, with its weights.
        pruning_ratio: r, share of the channels that can go, above 0 and below 1.
        example_inputs: what the network takes, as for `structured`.
        ignored: as for `structured`.
        style: "residual" prunes all channels that can go, "normal" those inside blocks alone.

    Raises:
        ValueError: the ratio is out of its range, the network has no BatchNorm scales or all are
            the same, or there is nothing to prune.
        TypeError: the ratio is no number.

    Example:
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
        >>> _ = network[1].weight.data.copy_(torch.tensor([0.1, 0.9, 0.2, 0.8]))
        >>> slimming(network, 0.5, torch.zeros(1, 3, 8, 8)).kept
        {'0': 2}
    """
    pruning_ratio = _as_ratio(pruning_ratio)
    check_style("slimming", style, has_shares=False)
    given = unwrap(model)
    model, inputs, _ = taken_in("slimming", model, example_inputs)
    check_same_each_time("slimming", model, call_of(inputs))
    model = plain(model, inputs)
    left_alone = ignored_layers("slimming", ignored, given, model)
    groups = channel_groups(model, inputs)
    candidates = pruned("slimming", style, groups)
    able = [group for group in candidates if ignored_in(group, left_alone) is None]
    stuck = staying(model, groups, left_alone, style)
    if not able:
        raise ValueError(f"slimming: {nothing_to_prune(ignored, stuck)}")
    scores = {group.name: found for group in able if (found := _scores(model, group)) is not None}
    if not scores:
        raise ValueError("slimming: model must have BatchNorms with scales, got none")
    scored = [group for group in able if group.name in scores]
    threshold = _threshold(scored, scores, pruning_ratio)
    left = [_left(group, scores[group.name], threshold) for group in scored]
    kept = dict(each for each in left if each is not None)
    stuck |= _without_scales(able, scores)
    name = f"slimming-{round(100 * pruning_ratio, 4):g}"
    return Scheme(name, kept, held_back=dict(sorted(stuck.items())), chosen_by="scale")


def _as_ratio(pruning_ratio: float) -> float:
    share = as_share("slimming", pruning_ratio)
    if share == 0:
        raise ValueError("slimming: pruning_ratio must be above 0, got 0")
    return share


def _left(group: ChannelGroup, scores: Tensor, threshold: float) -> tuple[str, int] | None:
    """A layer of a group and how many rows of it stay; None: all of them."""
    layer = group.widest()
    channels, repeats = group.rows_of(layer)
    # No more than the layer has of them, which the scheme is told by.
    able = min(int(group.free[channels].sum()), len(channels) - 1)
    gone = min(int((scores <= threshold).sum()), able)
    return (layer, (len(channels) - gone) * repeats) if gone else None


def by_scale(
    scheme: Scheme, model: nn.Module, groups: Sequence[ChannelGroup]
) -> list[ChannelGroup]:
    """The groups with the order in which a scheme's channels stay, where their scales decide it.

    Args:
        scheme: which says who chooses.
        model: the network, in plain modules.
        groups: its channel groups.

    Raises:
        ValueError: a layer of the scheme makes channels that pass no BatchNorm, all scales are the
            same, or the scheme has channels chosen by something else.
    """
    if scheme.chosen_by not in ("method", "scale"):
        raise ValueError(
            f"scheme {scheme.name!r}: chosen_by must be method or scale, "
            f"got {shown(scheme.chosen_by)}"
        )
    if scheme.chosen_by == "method":
        return list(groups)
    found, several = [], list[float]()
    for group in groups:
        named = scheme.kept.keys() & set(group.named("writer"))
        scores = _scores(model, group) if named else None
        if named and scores is None:
            raise ValueError(
                f"scheme {scheme.name!r}: channels of {min(named)!r} must pass a BatchNorm to be "
                "chosen by its scales, got none"
            )
        order = None if scores is None else scores.argsort(descending=True, stable=True)
        found.append(replace(group, order=order))
        several += [] if scores is None else scores[scores.isfinite()].unique().tolist()
    if several and min(several) == max(several):
        raise ValueError(
            f"scheme {scheme.name!r}: model must have BatchNorm scales that differ, got "
            f"{several[0]:g} everywhere"
        )
    return found


def _scores(model: nn.Module, group: ChannelGroup) -> Tensor | None:
    """The scale of each channel, infinite for those that must stay, [size]; None: no scales."""
    scales = batch_norm_scales(model, group)
    return None if scales is None else with_those_that_stay(group, scales)


def _threshold(
    groups: Sequence[ChannelGroup], scores: dict[str, Tensor], pruning_ratio: float
) -> float:
    """The scale up to which channels go."""
    free = torch.cat([scores[group.name][group.free] for group in groups]).sort().values
    finite = free[free.isfinite()]
    if len(finite) == 0 or bool(finite[0] == finite[-1]):
        told = "none that can go" if len(finite) == 0 else f"{finite[0]:g} everywhere"
        raise ValueError(f"slimming: model must have BatchNorm scales that differ, got {told}")
    count = math.floor(pruning_ratio * len(free) + 1e-9)
    if count == 0:
        raise ValueError(
            f"slimming: pruning_ratio must be at least {1 / len(free):.3g}, one of the "
            f"{len(free)} channels that can go, got {pruning_ratio:g}"
        )
    return float(finite[min(count, len(finite)) - 1])


def _without_scales(able: Sequence[ChannelGroup], scores: Collection[str]) -> dict[str, str]:
    return {
        layer: "they pass no BatchNorm"
        for group in able
        if group.name not in scores
        for layer in group.named("writer")
    }
