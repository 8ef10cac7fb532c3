"""Cutting channels out of a network, and the masked form that a cut is checked against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fsc.channels.groups import ChannelGroup
from fsc.channels.masked_norm import (
    MaskedGroupNorm,
    MaskedLayerNorm,
    masked_norm,
    takes_all_channels,
    unmasked_norm,
)
from fsc.channels.propagation import CHANNEL_NORM, CONVOLUTION
from fsc.networks.layout import layout_of
from fsc.networks.open_sizes import set_size
from fsc.networks.placing import put

# Which channels of each group stay: name of the group -> their numbers, int64 [count].
Kept = Mapping[str, Tensor]
_KEYS = {"writer": "written", "reader": "read", "carrier": "carried", "size": "counted"}


def cut_channels(model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept) -> None:
    """Remove the channels of groups that are not kept, in place.

    Args:
        model: the network that the groups were found in, or a copy.
        groups: from `channel_groups`.
        kept: for each group that loses channels, those that stay; groups not named stay whole.

    Raises:
        ValueError: a name is no group, numbers are not strictly increasing, in range and at least
            one, or a channel goes that must stay. The network is unchanged then.
    """
    sides = _sides(groups, kept)
    with torch.no_grad():
        for name, side in sides.items():
            if side.counted is not None:
                set_size(model, name, int(side.counted.sum()))
                continue
            if side.axis is not None:
                _cut_bare(model, name, side.axis, side.carried)
                continue
            if isinstance(model.get_submodule(name), MaskedLayerNorm | MaskedGroupNorm):
                put(model, name, unmasked_norm(model.get_submodule(name)))
            _cut_module(model.get_submodule(name), side)


def mask_channels(model: nn.Module, groups: Sequence[ChannelGroup], kept: Kept) -> None:
    """Zero the channels of groups that are not kept, and what reads them, in place.

    The result computes what `cut_channels` gives, at the old size. What normalises over all
    channels at once becomes a `MaskedLayerNorm` or `MaskedGroupNorm`, until it is cut.

    Args and errors as for `cut_channels`.
    """
    sides = _sides(groups, kept)
    with torch.no_grad():
        for name, side in sides.items():
            if side.counted is not None:
                continue
            if side.axis is not None:
                parameter = _bare(model, name)
                parameter.index_fill_(side.axis, _gone(side.carried, parameter), 0)
                continue
            if side.carried is not None and takes_all_channels(model.get_submodule(name)):
                masked = masked_norm(model.get_submodule(name), side.carried)
                put(model, name, masked)
            _mask_module(model.get_submodule(name), side)


def filters(layer: Any) -> Tensor:
    """The weight of a convolution, transposed or not, or of a Linear, one row an output channel."""
    weight: Tensor = layer.weight
    if not getattr(layer, "transposed", False):
        return weight
    blocks = weight.unflatten(0, (layer.groups, -1))  # [groups, C_in / groups, C_out / groups, ...]
    return blocks.transpose(1, 2).flatten(0, 1)


@dataclass
class _Sides:
    """What stays of one module or parameter, bool masks; None: everything."""

    written: Tensor | None = None
    read: Tensor | None = None
    carried: Tensor | None = None
    counted: Tensor | None = None
    axis: int | None = None


def _sides(groups: Sequence[ChannelGroup], kept: Kept) -> dict[str, _Sides]:
    """What stays of everything that loses something; several groups may reach one side."""
    by_name = {group.name: group for group in groups}
    unknown = [name for name in kept if name not in by_name]
    if unknown:
        raise ValueError(f"kept must name groups of channels, got {unknown[0]!r}")
    sides: dict[str, _Sides] = {}
    for name, indices in kept.items():
        stays = _stays(by_name[name], indices)
        for slot in by_name[name].slots:
            side = sides.setdefault(slot.name, _Sides(axis=slot.axis))
            key = _KEYS[slot.role]
            before = getattr(side, key)
            mask = slot.mask(stays)
            setattr(side, key, mask if before is None else before & mask)
            # A part of no channels is one, a layer of none is not.
            if key != "counted" and not bool(getattr(side, key).any()):
                raise ValueError(f"kept: a channel of module {slot.name!r} must stay, got none")
    return sides


def _stays(group: ChannelGroup, indices: Tensor) -> Tensor:
    """Which channels of a group stay, bool [size]."""
    indices = indices.cpu()
    if indices.ndim != 1 or indices.is_floating_point() or len(indices) == 0:
        raise ValueError(
            f"kept: channels of {group.name!r} must be integers [count] with count at least 1, "
            f"got {indices.dtype} {list(indices.shape)}"
        )
    inside = int(indices[0]) >= 0 and int(indices[-1]) < group.size
    if not inside or not bool((indices.diff() > 0).all()):
        raise ValueError(
            f"kept: channels of {group.name!r} must be strictly increasing from 0 to "
            f"{group.size - 1}, got {indices.tolist()}"
        )
    stays = group.mask(indices)
    if bool((~stays & ~group.free).any()):
        first = int((~stays & ~group.free).nonzero()[0])
        reason = group.frozen or "another channel of its layer reaches what cannot lose it"
        raise ValueError(f"kept: channel {first} of {group.name!r} must stay, because {reason}")
    return stays


def _cut_module(module: Any, side: _Sides) -> None:
    if side.carried is not None:
        _cut_carrier(module, side.carried)
        return
    if isinstance(module, nn.Linear):
        module.weight = _sliced(_sliced(module.weight, 0, side.written), 1, side.read)
        module.out_features, module.in_features = module.weight.shape
    else:
        # Groups keep the same channels each, so that those of the first say it for all.
        rows, columns = (
            (side.read, side.written) if module.transposed else (side.written, side.read)
        )
        within = None if columns is None else columns.view(module.groups, -1)[0]
        module.weight = _sliced(_sliced(module.weight, 0, rows), 1, within)
        outer, inner = module.weight.shape[0], module.weight.shape[1] * module.groups
        module.in_channels, module.out_channels = (
            (outer, inner) if module.transposed else (inner, outer)
        )
    if module.bias is not None:
        module.bias = _sliced(module.bias, 0, side.written)


def _cut_carrier(module: Any, stays: Tensor) -> None:
    if isinstance(module, nn.Identity):
        return  # a BatchNorm was folded since the groups were found
    count = int(stays.sum())
    if isinstance(module, CONVOLUTION):
        multiplier = module.out_channels // module.groups
        rows = stays if module.transposed else stays.repeat_interleave(multiplier)
        module.weight = _sliced(module.weight, 0, rows)
        if module.bias is not None:
            module.bias = _sliced(module.bias, 0, stays.repeat_interleave(multiplier))
        module.groups = module.in_channels = count
        module.out_channels = count * multiplier
        return
    for name in ("weight", "bias", "running_mean", "running_var"):
        tensor = getattr(module, name, None)
        if tensor is not None:
            setattr(module, name, _sliced(tensor, 0, stays))
    if isinstance(module, CHANNEL_NORM):
        module.num_features = count
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = (count,)
    elif isinstance(module, nn.GroupNorm):
        module.num_groups = max(1, count * module.num_groups // module.num_channels)
        module.num_channels = count
    else:
        module.num_parameters = count  # PReLU


def _mask_module(module: Any, side: _Sides) -> None:
    transposed = getattr(module, "transposed", False)
    groups = getattr(module, "groups", 1)
    if side.carried is not None:
        for name in ("weight", "bias", "running_mean"):
            tensor = getattr(module, name, None)
            if tensor is not None:
                repeats = len(tensor) // len(side.carried)
                tensor[_gone(side.carried.repeat_interleave(repeats), tensor)] = 0
        return
    for mask, axis in ((side.written, int(transposed)), (side.read, 1 - int(transposed))):
        if mask is not None:
            within = mask.view(groups, -1)[0] if axis == 1 else mask
            module.weight.index_fill_(axis, _gone(within, module.weight), 0)
    if module.bias is not None and side.written is not None:
        module.bias[_gone(side.written, module.bias)] = 0


def _gone(stays: Tensor | None, like: Tensor) -> Tensor:
    assert stays is not None
    return (~stays).nonzero().flatten().to(like.device)


def _sliced(tensor: Tensor, axis: int, stays: Tensor | None) -> Any:
    """What stays of a parameter or buffer, as one."""
    if stays is None:
        return tensor
    indices = stays.nonzero().flatten().to(tensor.device)
    left = tensor.detach().index_select(axis, indices)
    left = left.contiguous(memory_format=layout_of(tensor))
    return nn.Parameter(left, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else left


def _bare(model: nn.Module, name: str) -> Tensor:
    owner, _, attribute = name.rpartition(".")
    tensor = getattr(model.get_submodule(owner), attribute)
    assert isinstance(tensor, Tensor)
    return tensor.detach()


def _cut_bare(model: nn.Module, name: str, axis: int, stays: Tensor | None) -> None:
    owner, _, attribute = name.rpartition(".")
    module = model.get_submodule(owner)
    setattr(module, attribute, _sliced(getattr(module, attribute), axis, stays))
