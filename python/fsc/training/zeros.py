"""Weights that are zero, kept so while something else trains them."""

from __future__ import annotations

import torch
from torch import nn

from fsc.networks.operations import CONVOLUTION
from fsc.networks.states import check_holds_values


class Zeros:
    """Where the convolutions and linear layers of a network are zero, to be made so again.

    An optimiser with momentum or decay of its own brings single weights back that a scheme removed.
    `restore` behind each of its steps takes them out again; biases and BatchNorm are left alone.

    Args:
        network: looked at as it is now; its weights are held, not copied.

    Raises:
        TypeError: network is no network.
        ValueError: a weight is computed anew whenever it is asked for, by a parametrization, or has
            no values, as on the meta device.

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
        check_holds_values("network", network)
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
        weights = {name: layer.weight for name, layer in layers.items()}
        self._network = network
        self._gone = {n: (weight, weight == 0) for n, weight in weights.items() if not weight.all()}

    @torch.no_grad()
    def restore(self) -> None:
        """Make zero again what was, also where it is NaN by now.

        Raises:
            ValueError: a layer has another weight than it had, so that the zeros would be made
                where nothing is computed with them any more.
        """
        modules = dict(self._network.named_modules())
        for name, (weight, is_gone) in self._gone.items():
            if getattr(modules.get(name), "weight", None) is not weight:
                raise ValueError(
                    "network must have the weights that Zeros was made with, got another in layer "
                    f"{name!r}, as load_state_dict(assign=True) gives it; make Zeros anew"
                )
            weight.masked_fill_(is_gone.to(weight.device), 0.0)
