"""Normalizations over all channels at once, that leave masked channels out of their statistics."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def takes_all_channels(module: nn.Module) -> bool:
    """Whether a module normalises by statistics over all channels together.

    That is a LayerNorm over one axis, or a GroupNorm of one group. On fewer channels they are other
    functions, so that a masked network has to leave the masked ones out of the statistics.
    """
    if isinstance(module, nn.LayerNorm):
        return len(module.normalized_shape) == 1
    return isinstance(module, nn.GroupNorm) and module.num_groups == 1 < module.num_channels


class MaskedLayerNorm(nn.LayerNorm):
    """A LayerNorm over the channels that stay, which gives zeros for the others.

    It computes what a LayerNorm of fewer channels does, at the old size.

    Args:
        norm: over one axis; its weight and bias are taken over, not copied.
        stays: which channels stay, bool [C].
    """

    is_layer_of_fsc: ClassVar[bool] = True
    stays: Tensor

    def __init__(self, norm: nn.LayerNorm, stays: Tensor) -> None:
        """Puts itself in the place of a LayerNorm."""
        affine, bias = norm.weight is not None, norm.bias is not None
        super().__init__(norm.normalized_shape, norm.eps, affine, bias, device="meta")
        _take_over(self, norm, stays)

    def forward(self, input: Tensor) -> Tensor:
        """Normalises [..., C]."""
        some = input[..., self.stays]  # [..., K]
        weight, bias = _own(self.weight, self.stays), _own(self.bias, self.stays)
        some = F.layer_norm(some, some.shape[-1:], weight, bias, self.eps)
        result = torch.zeros_like(input)
        result[..., self.stays] = some
        return result


class MaskedGroupNorm(nn.GroupNorm):
    """A GroupNorm of one group over the channels that stay, which gives zeros for the others.

    Args:
        norm: of one group; its weight and bias are taken over, not copied.
        stays: which channels stay, bool [C].
    """

    is_layer_of_fsc: ClassVar[bool] = True
    stays: Tensor

    def __init__(self, norm: nn.GroupNorm, stays: Tensor) -> None:
        """Puts itself in the place of a GroupNorm."""
        super().__init__(1, norm.num_channels, norm.eps, norm.affine, device="meta")
        _take_over(self, norm, stays)

    def forward(self, input: Tensor) -> Tensor:
        """Normalises [N, C, ...]."""
        some = input[:, self.stays]  # [N, K, ...]
        weight, bias = _own(self.weight, self.stays), _own(self.bias, self.stays)
        result = torch.zeros_like(input)
        result[:, self.stays] = F.group_norm(some, 1, weight, bias, self.eps)
        return result


def masked_norm(norm: nn.Module, stays: Tensor) -> nn.Module:
    """Such a normalization, masked; `stays` is bool [C]."""
    if isinstance(norm, nn.LayerNorm):
        return MaskedLayerNorm(norm, stays)
    assert isinstance(norm, nn.GroupNorm)
    return MaskedGroupNorm(norm, stays)


def unmasked_norm(norm: nn.Module) -> nn.Module:
    """The normalization of torch.nn that a masked one was made of, whole again."""
    found: nn.LayerNorm | nn.GroupNorm
    if isinstance(norm, MaskedLayerNorm):
        affine, bias = norm.weight is not None, norm.bias is not None
        found = nn.LayerNorm(norm.normalized_shape, norm.eps, affine, bias, device="meta")
    else:
        assert isinstance(norm, MaskedGroupNorm)
        found = nn.GroupNorm(1, norm.num_channels, norm.eps, norm.affine, device="meta")
    found.weight, found.bias = norm.weight, norm.bias
    return found.train(norm.training)


def _take_over(masked: Any, norm: Any, stays: Tensor) -> None:
    masked.weight, masked.bias = norm.weight, norm.bias
    masked.train(norm.training)
    device = "cpu" if norm.weight is None else norm.weight.device
    # No part of the network's state: a file holds what is left, never what is masked.
    masked.register_buffer("stays", stays.to(device), persistent=False)


def _own(values: Tensor | None, stays: Tensor) -> Tensor | None:
    return None if values is None else values[stays]
