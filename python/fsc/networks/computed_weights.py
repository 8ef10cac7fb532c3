"""Weights that are computed from other tensors in every call, made parameters."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


def copy_of(model: nn.Module) -> nn.Module:
    """Return a deep copy, of a network whose computed weights are part of an autograd graph too."""
    known: dict[int, Any] = {}
    for module in model.modules():
        for value in (*vars(module).values(), *module._buffers.values()):
            if isinstance(value, Tensor) and not value.is_leaf:
                known[id(value)] = value.detach().clone()
    return copy.deepcopy(model, known)


def fix_weights(model: nn.Module) -> list[tuple[str, str, str]]:
    """Make every computed weight of a network in evaluation mode a parameter, in place.

    These are the parametrizations of torch.nn.utils.parametrize, the weight_norm and spectral_norm
    of torch.nn.utils, and the masks of torch.nn.utils.prune.

    Returns:
        (name of the module, what computed a weight of it, its class) for each such weight.
    """
    done = []
    for name, module in list(model.named_modules()):
        if isinstance(module, parametrize.ParametrizationList):
            continue
        trained = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
        found = _fix_parametrizations(module) + _fix_hooks(module)
        if found:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(trained)
        done += [(name, what, type(module).__name__) for what in found]
    return done


def _fix_parametrizations(module: nn.Module) -> list[str]:
    if not parametrize.is_parametrized(module):
        return []
    # By hand: remove_parametrizations changes a class that copies of the module share.
    lists: Any = module.parametrizations
    names = {name: [type(step).__name__.lstrip("_") for step in lists[name]] for name in lists}
    with torch.no_grad():
        values = {name: getattr(module, name).clone() for name in names}
    trained = {name: any(True for _ in lists[name].parameters()) for name in names}
    module.__class__ = parametrize.type_before_parametrizations(module)
    del module.parametrizations
    for name, value in values.items():
        if trained[name]:
            module.register_parameter(name, nn.Parameter(value))
        else:
            module.register_buffer(name, value)
    return [", ".join(steps) for steps in names.values()]


def _fix_hooks(module: nn.Module) -> list[str]:
    found = []
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
        elif isinstance(hook, prune.BasePruningMethod):
            prune.remove(module, hook._tensor_name)
        else:
            continue
        found.append(type(hook).__name__)
    return found
