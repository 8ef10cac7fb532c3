"""How large the filters are that write each channel of a group, and the scales behind them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fsc.channels.cutting import filters
from fsc.channels.groups import ChannelGroup
from fsc.networks.operations import BATCH_NORM


def filter_norms(model: nn.Module, group: ChannelGroup, order: int = 1) -> Tensor:
    """Sum of |w|^order over the filters that write each channel, in all layers, float64 [size]."""
    norms = torch.zeros(group.size, dtype=torch.float64, device="cpu")
    for slot in group.slots:
        if slot.role == "writer":
            rows = filters(model.get_submodule(slot.name)).detach().double().flatten(1)
            norms.index_add_(0, slot.channels, rows.abs().pow(order).sum(1).cpu())
    return norms


def batch_norm_scales(model: nn.Module, group: ChannelGroup) -> Tensor | None:
    """The largest |gamma| of every BatchNorm that a channel passes, float64 [size].

    A channel that passes several is needed where one of them lets it through. One that passes none
    has an infinite scale; None where no channel passes any.
    """
    scales = torch.full((group.size,), -1.0, dtype=torch.float64, device="cpu")
    modules = dict(model.named_modules())
    for slot in group.slots:
        module = modules.get(slot.name)
        if slot.role == "carrier" and isinstance(module, BATCH_NORM) and module.affine:
            own = slot.channels >= 0
            found = module.weight.detach().double().abs().cpu()[own]
            scales.scatter_reduce_(0, slot.channels[own], found, "amax")
    missing = scales < 0
    return None if bool(missing.all()) else scales.masked_fill(missing, torch.inf)


def largest_first(model: nn.Module, group: ChannelGroup) -> Tensor:
    """The channels by the L1 norm of their filters, int64 [size]; those that must stay are first.

    So is one of every layer: none may lose all that it reads or writes. Where the group has an
    order already it is that.
    """
    if group.order is not None:
        return group.order
    scores = with_those_that_stay(group, filter_norms(model, group))
    return scores.argsort(descending=True, stable=True)


def with_those_that_stay(group: ChannelGroup, scores: Tensor) -> Tensor:
    """Scores [size] of channels, infinite for those that must stay and the best of each layer."""
    scores = scores.masked_fill(~group.free, torch.inf)
    for slot in group.slots:
        channels = slot.channels[slot.channels >= 0].unique()
        if len(channels) == len(slot.channels):
            scores[channels[scores[channels].argmax()]] = torch.inf
    return scores
