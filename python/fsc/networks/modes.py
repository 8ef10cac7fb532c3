"""Training and evaluation modes of networks that belong to somebody else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import fx, nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode and give each its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def without_gradients(model: nn.Module) -> Iterator[None]:
    """Has no parameter ask for a gradient, which views of it do under `torch.no_grad` as well."""
    # Those made in `torch.inference_mode` have no history, and could not ask again.
    asking = [each for each in model.parameters() if each.requires_grad and not each.is_inference()]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        with torch.no_grad():
            yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


@contextmanager
def outside_inference() -> Iterator[None]:
    """Leaves `torch.inference_mode`, whose tensors can neither be counted nor learned from."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False):
        yield


@contextmanager
def unprinted(model: nn.Module) -> Iterator[None]:
    """Let graphs raise what they raise without printing it first, with their code, as torch.fx has.

    Every `fx.GraphModule` has a class of its own, whose `__call__` prints; that of its base does
    not.
    """
    kinds = {type(module) for module in model.modules() if isinstance(module, fx.GraphModule)}
    printing = {kind: vars(kind)["__call__"] for kind in kinds if "__call__" in vars(kind)}
    for kind in printing:
        del kind.__call__
    try:
        yield
    finally:
        for kind, call in printing.items():
            kind.__call__ = call  # type: ignore[method-assign]
