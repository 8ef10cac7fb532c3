"""How large the filters are that write each channel of a group."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fsc.channels.cutting import filters
from fsc.channels.groups import ChannelGroup


def filter_norms(model: nn.Module, group: ChannelGroup, order: int = 1) -> Tensor:
    """Sum of |w|^order over the filters that write each channel, in all layers, float64 [size]."""
    norms = torch.zeros(group.size, dtype=torch.float64, device="cpu")
    for slot in group.slots:
        if slot.role == "writer":
            rows = filters(model.get_submodule(slot.name)).detach().double().flatten(1)
            norms.index_add_(0, slot.channels, rows.abs().pow(order).sum(1).cpu())
    return norms


def largest_first(model: nn.Module, group: ChannelGroup) -> Tensor:
    """The channels by the L1 norm of their filters, int64 [size]; those that must stay are first.

    So is one of every layer: none may lose all that it reads or writes.
    """
    norms = filter_norms(model, group).masked_fill(~group.free, torch.inf)
    for slot in group.slots:
        channels = slot.channels[slot.channels >= 0].unique()
        if len(channels) == len(slot.channels):
            norms[channels[norms[channels].argmax()]] = torch.inf
    return norms.argsort(descending=True, stable=True)
