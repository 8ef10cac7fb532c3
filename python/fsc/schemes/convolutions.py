"""The layers that a scheme names."""

from __future__ import annotations

from torch import nn


def convolution_of(model: nn.Module, layer: str, scheme_name: str) -> nn.Conv2d:
    """The convolution that a scheme names.

    Raises:
        ValueError: there is no such layer, or it is no Conv2d.
    """
    module = dict(model.named_modules()).get(layer)
    if not isinstance(module, nn.Conv2d):
        found = "none" if module is None else type(module).__name__
        raise ValueError(
            f"scheme {scheme_name!r}: layer {layer!r} must be a Conv2d of "
            f"{type(model).__name__}, got {found}"
        )
    return module
