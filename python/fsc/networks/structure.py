"""Giving a dense network the widths of stored tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fsc.networks.quantized_inputs import MAX_BITS, QuantizedInputConv2d


def match_structure(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Give the layers of a dense network the shapes of stored tensors, in place.

    Conv2d, BatchNorm2d and Linear take the stored widths; a convolution gains or loses its bias; a
    BatchNorm2d without a stored tensor, because it was folded, becomes nn.Identity; a convolution
    with stored input bits quantizes its input. A layer whose
    stored tensors have another rank or kernel, are empty or hold integers stays as it is. Values
    are left undefined: load the state afterwards, strictly, which finds whatever does not match.

    Args:
        model: the network before compression.
        state_dict: name -> tensor, as `nn.Module.state_dict` gives it.
    """
    for name, module in list(model.named_modules()):
        stored = {
            key: state_dict[f"{name}.{key}"]
            for key in ("weight", "bias", "running_mean", "running_var")
            if f"{name}.{key}" in state_dict
        }
        if isinstance(module, nn.BatchNorm2d):
            if not stored and module.state_dict():
                model.set_submodule(name, nn.Identity())
            elif stored:
                _resize_batch_norm(module, stored)
        elif isinstance(module, nn.Conv2d | nn.Linear) and "weight" in stored:
            _resize_layer(module, stored)
            if isinstance(module, nn.Conv2d) and _has_input_bits(name, state_dict):
                bits = int(state_dict[f"{name}.input_bits"])
                model.set_submodule(name, QuantizedInputConv2d(module, 1.0, bits))


def _has_input_bits(name: str, state_dict: Mapping[str, Tensor]) -> bool:
    """Whether stored input bits and their limit are such as a QuantizedInputConv2d has."""
    bits, limit = (state_dict.get(f"{name}.input_{key}") for key in ("bits", "limit"))
    if bits is None or limit is None or bits.numel() != 1 or limit.numel() != 1:
        return False
    return bool(1 <= bits.item() <= MAX_BITS) and bool(0 < limit.item() < math.inf)


def _resize_batch_norm(module: nn.BatchNorm2d, stored: Mapping[str, Tensor]) -> None:
    first = next(iter(stored.values()))
    if not _is_weight(first, 1):
        return
    module.num_features = len(first)
    for key in stored:
        resized = torch.empty_like(first)  # [C]
        if isinstance(getattr(module, key), nn.Parameter):
            setattr(module, key, nn.Parameter(resized))
        elif getattr(module, key) is not None:
            setattr(module, key, resized)


def _resize_layer(module: nn.Conv2d | nn.Linear, stored: Mapping[str, Tensor]) -> None:
    weight = stored["weight"]  # [C_out, C_in / groups, kH, kW] or [C_out, C_in]
    if not _is_weight(weight, module.weight.ndim) or weight.shape[2:] != module.weight.shape[2:]:
        return
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    else:
        if module.groups == module.in_channels > 1:
            module.groups = len(weight) * module.groups // module.out_channels
        module.out_channels = len(weight)
        module.in_channels = weight.shape[1] * module.groups
    module.weight = nn.Parameter(torch.empty_like(weight))
    bias = weight.new_empty(len(weight))  # [C_out]
    module.bias = nn.Parameter(bias) if "bias" in stored else None


def _is_weight(value: Tensor, ndim: int) -> bool:
    return value.ndim == ndim and value.numel() > 0 and value.is_floating_point()
