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
