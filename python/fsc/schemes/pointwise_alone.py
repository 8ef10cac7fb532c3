"""Networks of which only 1x1 convolutions are trained (FSKD, Appendix E, ND-1x1)."""

from __future__ import annotations

import copy

from torch import nn

from fsc.networks.decoupling import decouple_layers, decoupled_of
from fsc.schemes.decoupling import able_layers


def pointwise_alone(model: nn.Module) -> nn.Module:
    """The same network with every larger convolution exactly decoupled and its taps frozen.

    Each ungrouped k x k convolution becomes a depthwise one with k^2 orthonormal filters for each
    input channel, which no longer takes gradients, and a pointwise one, which does: together they
    compute what the convolution computed (Eq. 3 with T = k^2). Training the network then moves
    pointwise convolutions, and all other layers as before.

    Args:
        model: a network that torch.fx can trace; it is not changed.

    Returns:
        A copy; `fsc.training.supervised.train` trains it as any other.

    Raises:
        ValueError: no convolution can be decoupled, or the network cannot be traced.

    Example:
        >>> from fsc import models
        >>> model = pointwise_alone(models.build("resnet14"))
        >>> [name for name, each in model.conv1.named_parameters() if each.requires_grad]
        ['pointwise.weight']
    """
    made = copy.deepcopy(model)
    found = dict(able_layers(made, first=True))
    layers = {name: each for name, each in found.items() if not isinstance(each, str)}
    if not layers:
        raise ValueError(
            "pointwise_alone: model must have an ungrouped convolution with a kernel larger than "
            f"1x1, got none in {type(model).__name__}"
        )
    taps = {name: each.kernel_size[0] * each.kernel_size[1] for name, each in layers.items()}
    decouple_layers(made, taps)
    for name in decoupled_of(made):
        made.get_submodule(f"{name}.depthwise").requires_grad_(False)
    return made
