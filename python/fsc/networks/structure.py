"""Giving a dense network the widths of stored tensors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from fsc.networks.placing import put
from fsc.networks.quantized_inputs import MAX_BITS, QuantizedInputConv2d

CONVOLUTION = nn.modules.conv._ConvNd
_NORM = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


def match_structure(model: nn.Module, state_dict: Mapping[str, Tensor]) -> None:
    """Give the layers of a dense network the shapes of stored tensors, in place.

    Every parameter and buffer takes its stored shape, and convolutions, Linears, normalizations and
    PReLU the sizes that follow from it; a convolution gains or loses its bias; a BatchNorm
    without a stored tensor, because it was folded, becomes nn.Identity; a convolution with stored
    input bits quantizes its input. A tensor that is stored with another rank or kernel, empty or
    with integers keeps its shape. Values are left undefined: load the state afterwards, strictly,
    which finds whatever does not match.

    Args:
        model: the network before compression.
        state_dict: name -> tensor, as `nn.Module.state_dict` gives it.
    """
    for name, module in list(model.named_modules()):
        prefix = f"{name}." if name else ""
        own = {**module._parameters, **module._buffers}
        stored = {
            key: state_dict[prefix + key]
            for key in (*own, "bias")
            if prefix + key in state_dict and (key in own or isinstance(module, CONVOLUTION))
        }
        if (
            isinstance(module, nn.modules.batchnorm._BatchNorm)
            and not stored
            and module.state_dict()
        ):
            put(model, name, nn.Identity())
            continue
        _resize(module, stored)
        if isinstance(module, nn.Conv2d) and _has_input_bits(name, state_dict):
            bits = int(state_dict[f"{name}.input_bits"])
            put(model, name, QuantizedInputConv2d(module, 1.0, bits))


def _resize(module: Any, stored: Mapping[str, Tensor]) -> None:
    """Give the tensors of one module their stored shapes, and the module its sizes."""
    weight = stored.get("weight")
    if isinstance(module, CONVOLUTION | nn.Linear):
        if weight is None or not _is_weight(weight, module.weight):
            return
        _set_sizes(module, weight)
        bias = weight.new_empty(_rows(module))  # [C_out]
        module.bias = nn.Parameter(bias) if "bias" in stored else None
    vectors = {len(value) for value in stored.values() if value.ndim == 1}
    if isinstance(module, (*_NORM, nn.GroupNorm)) and len(vectors) > 1:
        return  # they do not belong together
    for key, value in stored.items():
        before = getattr(module, key, None)
        if before is None or key == "bias" and isinstance(module, CONVOLUTION | nn.Linear):
            continue
        if before.shape != value.shape and _is_weight(value, before):
            made = torch.empty_like(value)
            setattr(module, key, nn.Parameter(made) if isinstance(before, nn.Parameter) else made)
    first = next((v for v in stored.values() if v.ndim == 1 and v.is_floating_point()), None)
    if first is not None and len(first):
        _set_channels(module, len(first))


def _set_sizes(layer: Any, weight: Tensor) -> None:
    """Sizes of a convolution or a Linear with a weight of such a shape."""
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = weight.shape
        return
    if layer.groups == layer.in_channels > 1:
        layer.groups = len(weight) * layer.groups // len(layer.weight)
    outer, inner = len(weight), weight.shape[1] * layer.groups
    sizes = (outer, inner) if layer.transposed else (inner, outer)
    layer.in_channels, layer.out_channels = sizes


def _rows(layer: Any) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def _set_channels(module: Any, count: int) -> None:
    """The number of channels of a normalization or a PReLU."""
    if isinstance(module, _NORM):
        module.num_features = count
    elif isinstance(module, nn.GroupNorm):
        # Whole groups went.
        module.num_groups = max(1, count * module.num_groups // module.num_channels)
        module.num_channels = count
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = (count,)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = count


def _has_input_bits(name: str, state_dict: Mapping[str, Tensor]) -> bool:
    """Whether stored input bits and their limit are such as a QuantizedInputConv2d has."""
    bits, limit = (state_dict.get(f"{name}.input_{key}") for key in ("bits", "limit"))
    if bits is None or limit is None or bits.numel() != 1 or limit.numel() != 1:
        return False
    return bool(1 <= bits.item() <= MAX_BITS) and bool(0 < limit.item() < math.inf)


def _is_weight(value: Tensor, before: Tensor) -> bool:
    """Whether a tensor can take the place of another: of its rank and kernel, and not empty."""
    fits = value.ndim == before.ndim and value.shape[2:] == before.shape[2:]
    return fits and value.numel() > 0 and value.is_floating_point()
