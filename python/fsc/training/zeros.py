"""Weights that are zero, kept so while something else trains them."""

from __future__ import annotations

import torch
from torch import nn

from fsc.networks.operations import CONVOLUTION


class Zeros:
    """Where the convolutions and linear layers of a network are zero, to be made so again.

    An optimiser with momentum or decay of its own brings single weights back that a scheme removed.
    `restore` behind each of its steps takes them out again; biases and BatchNorm are left alone.

    Args:
        network: looked at as it is now; its weights are held, not copied.

    Raises:
        ValueError: a weight is computed anew whenever it is asked for, by a parametrization.

    Example:
        >>> import torch
        >>> layer = torch.nn.Linear(2, 1)
        >>> _ = torch.nn.init.constant_(layer.weight, 1.0)
        >>> layer.weight.data[0, 0] = 0.0
        >>> zeros = Zeros(layer)
        >>> _ = torch.nn.init.constant_(layer.weight, 3.0)
        >>> zeros.restore()
        >>> layer.weight.tolist()
        [[0.0, 3.0]]
    """

    def __init__(self, network: nn.Module) -> None:
        """Remember them."""
        layers = {
            name: module
            for name, module in network.named_modules()
            if isinstance(module, CONVOLUTION | nn.Linear)
        }
        for name, layer in layers.items():
            if not isinstance(layer.weight, nn.Parameter):
                raise ValueError(
                    "network must have weights of its own to keep zeros in, got a parametrization "
                    f"in layer {name!r}"
                )
        weights = [layer.weight for layer in layers.values()]
        self._gone = [(weight, weight == 0) for weight in weights if not weight.all()]

    @torch.no_grad()
    def restore(self) -> None:
        """Make zero again what was, also where it is NaN by now."""
        for weight, is_gone in self._gone:
            weight.masked_fill_(is_gone, 0.0)
