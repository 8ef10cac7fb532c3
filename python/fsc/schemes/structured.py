"""Structured schemes: how many output channels each convolution keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral

from torch import nn

from fsc import tracing
from fsc.prunable import readers_if_prunable


@dataclass(frozen=True)
class Scheme:
    """How many output channels a network keeps.

    Attributes:
        name: what reports call it.
        kept: name of each pruned convolution -> number of its output channels that stay.
    """

    name: str
    kept: dict[str, int]


def uniform(layers: Mapping[str, int], pruning_ratio: float) -> Scheme:
    """Remove the same share of output channels from each of the given convolutions.

    Args:
        layers: name of each convolution to prune -> number of its output channels.
        pruning_ratio: share of the channels to remove, at least 0 and below 1; the number that
            stays is rounded, and at least one stays.

    Raises:
        ValueError: a ratio outside [0, 1), or no layers.

    Example:
        >>> uniform({"conv1": 16, "conv2": 3}, 0.9).kept
        {'conv1': 2, 'conv2': 1}
    """
    if not 0 <= pruning_ratio < 1:
        raise ValueError(
            f"uniform: pruning_ratio must be at least 0 and below 1, got {pruning_ratio}"
        )
    if not layers:
        raise ValueError("uniform: layers must name at least one convolution, got none")
    kept = {layer: max(1, round(width * (1 - pruning_ratio))) for layer, width in layers.items()}
    return Scheme(f"uniform-{pruning_ratio:g}", kept)


def check_structured(scheme: Scheme, model: nn.Module) -> None:
    """Make sure that a scheme fits a network, before any work is done.

    Raises:
        ValueError: the scheme is empty, a layer does not exist or is no Conv2d, a count is no
            integer, below one or above the output channels that there are, the network cannot be
            traced, or a layer cannot lose channels because it or what reads it is grouped, or
            because its channels reach an addition, a concatenation or the output.
    """
    if not scheme.kept:
        raise ValueError(f"scheme {scheme.name!r} prunes no layer")
    modules = dict(model.named_modules())
    for layer, count in scheme.kept.items():
        module = modules.get(layer)
        if module is None:
            raise ValueError(
                f"scheme {scheme.name!r}: layer {layer!r} does not exist in {type(model).__name__}"
            )
        if not isinstance(module, nn.Conv2d):
            raise ValueError(
                f"scheme {scheme.name!r}: layer {layer!r} must be a Conv2d, "
                f"got {type(module).__name__}"
            )
        whole = isinstance(count, Integral) and not isinstance(count, bool)
        if not whole or not 1 <= count <= module.out_channels:
            raise ValueError(
                f"scheme {scheme.name!r}: layer {layer!r} must keep 1 to {module.out_channels} "
                f"output channels, got {count!r}"
            )
    _check_prunable(scheme, model)


def _check_prunable(scheme: Scheme, model: nn.Module) -> None:
    graph = tracing.trace(model)
    for layer in scheme.kept:
        try:
            readers_if_prunable(model, graph, layer)
        except ValueError as error:
            raise ValueError(
                f"scheme must prune layers that can lose channels, but in {scheme.name!r} {error}"
            ) from error
