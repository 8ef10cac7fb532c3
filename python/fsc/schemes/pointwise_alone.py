"""Networks of which only 1x1 convolutions are trained (FSKD, Appendix E, ND-1x1)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping

from torch import nn

from fsc.networks.decoupling import decouple_layers, decoupled_of
from fsc.networks.operations import CONVOLUTION
from fsc.schemes.decoupling import able_layers
from fsc.warning import CompressionWarning


def pointwise_alone(model: nn.Module) -> nn.Module:
    """The same network with every larger convolution exactly decoupled and its taps frozen.

    Each ungrouped k x k convolution becomes a depthwise one with k^2 orthonormal filters for each
    input channel, which no longer takes gradients, and a pointwise one, which does: together they
    compute what the convolution computed (Eq. 3 with T = k^2). Training the network then moves
    pointwise convolutions, and all other layers as before: among them larger convolutions that have
    groups, are depthwise already, are called twice or are no plain `Conv2d`, which a warning names.

    Args:
        model: a network that torch.fx can trace; it is not changed.

    Returns:
        A copy; `fsc.training.supervised.train` trains it as any other.

    Raises:
        ValueError: no convolution can be decoupled, or the network cannot be traced.
        TypeError: model is no network.

    Warns:
        CompressionWarning: convolutions with kernels larger than 1x1 still take gradients.

    Example:
        >>> from fsc import models
        >>> model = pointwise_alone(models.build("resnet14"))
        >>> [name for name, each in model.conv1.named_parameters() if each.requires_grad]
        ['pointwise.weight']
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    made = copy.deepcopy(model)
    found = dict(able_layers(made, first=True))
    layers = {name: each for name, each in found.items() if not isinstance(each, str)}
    left = _left_whole(made, found)
    if not layers:
        why = f": {'; '.join(left)}" if left else f" in {type(model).__name__}"
        raise ValueError(
            "pointwise_alone: model must have a convolution with a kernel larger than 1x1 that can "
            f"be decoupled, got none{why}"
        )
    if left:
        warnings.warn(
            f"pointwise_alone: larger convolutions still take gradients: {'; '.join(left)}",
            CompressionWarning,
            stacklevel=2,
        )
    taps = {name: each.kernel_size[0] * each.kernel_size[1] for name, each in layers.items()}
    decouple_layers(made, taps)
    for name in decoupled_of(made):
        made.get_submodule(f"{name}.depthwise").requires_grad_(False)
    return made


def _left_whole(model: nn.Module, found: Mapping[str, nn.Conv2d | str]) -> list[str]:
    """Why each larger convolution that takes gradients is not decoupled."""
    reasons = []
    for name, module in model.named_modules():
        if not isinstance(module, CONVOLUTION) or max(module.kernel_size) == 1:
            continue
        known = found.get(name)
        if known is module or not any(each.requires_grad for each in module.parameters()):
            continue
        if isinstance(known, str):
            reasons.append(known)
        elif type(module) is not nn.Conv2d:
            reasons.append(f"{name!r} stays whole: it is a {type(module).__name__}")
        elif module.groups == module.in_channels > 1:
            reasons.append(f"{name!r} stays whole: it is depthwise already")
        else:
            reasons.append(f"{name!r} stays whole: the network does not call it")
    return reasons
