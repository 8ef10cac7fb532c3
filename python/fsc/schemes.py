"""Pruning schemes: how many output channels each convolution keeps. Schemes are data."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral

import torch
from torch import nn

from fsc import models, tracing
from fsc.files import read_json
from fsc.prunable import readers_if_prunable

_RESNET_KEPT = {"res-50": 0.5, "res-60": 0.4, "res-70": 0.3, "res-90": 0.1}
_VGG_50 = "vgg-50"


@dataclass(frozen=True)
class Scheme:
    """How many output channels a network keeps.

    Attributes:
        name: what reports call it.
        kept: name of each pruned convolution -> number of its output channels that stay.
    """

    name: str
    kept: dict[str, int]


def names() -> list[str]:
    """Return the names that `named` knows."""
    return [*_RESNET_KEPT, _VGG_50]


def named(name: str, model_name: str) -> Scheme:
    """Return a published scheme for a network of `fsc.models`.

    "res-50", "res-60", "res-70", "res-90" (CD Table 11) prune the channels between the two
    convolutions of a residual block: of c channels int(r·c) + 1 stay, r = 0.5, 0.4, 0.3, 0.1.
    Sensitive blocks stay whole: the first blocks of stages two and three, the last block, and in
    ResNet-56 also the last but one of stage one, so that its convolutions 16, 20, 38 and 54 (from
    0, in order of execution) keep all their input channels, as in the code released with the paper.
    "vgg-50" (CD Table 10) keeps half of the output channels of every convolution but the last.

    Args:
        name: one of `names()`.
        model_name: one of `fsc.models.names()`, of the family that the scheme is for.

    Raises:
        ValueError: an unknown name, or a scheme of another family.

    Example:
        >>> named("res-50", "resnet56").kept["layer1.0.conv1"]
        9
    """
    if name not in names():
        raise ValueError(f"named: name must be one of {', '.join(names())}, got {name!r}")
    family = "vgg" if name == _VGG_50 else "resnet"
    if models.family(model_name) != family:
        raise ValueError(f"named: scheme {name!r} is for {family} networks, got {model_name!r}")
    convolutions = _convolutions(model_name)
    if name == _VGG_50:
        kept = {layer: width // 2 for layer, width in list(convolutions.items())[:-1]}
    else:
        kept = _residual(convolutions, _RESNET_KEPT[name])
    return Scheme(name, kept)


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


def from_json(path: str | os.PathLike[str]) -> Scheme:
    """Read a scheme of one's own: {"name": "mine", "kept": {"features.0": 32, ...}}.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON or not of this form.
    """
    content = read_json(path, "scheme file")
    if not isinstance(content, dict) or set(content) != {"name", "kept"}:
        raise ValueError(f"scheme file {path} must hold an object with exactly name and kept")
    name, kept = content["name"], content["kept"]
    if not isinstance(name, str) or not name:
        raise ValueError(f"scheme file {path}: name must be a text, got {name!r}")
    if not isinstance(kept, dict) or not kept:
        raise ValueError(f"scheme file {path}: kept must map layers to counts, got {kept!r}")
    for layer, count in kept.items():
        if type(count) is not int:
            raise ValueError(f"scheme file {path}: kept[{layer!r}] must be a count, got {count!r}")
    return Scheme(name, kept)


def check(scheme: Scheme, model: nn.Module) -> None:
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


def _convolutions(model_name: str) -> dict[str, int]:
    # On the meta device building costs no memory and draws no random numbers.
    with torch.device("meta"):
        model = models.build(model_name)
    return {
        name: module.out_channels
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    }


def _residual(convolutions: dict[str, int], ratio: float) -> dict[str, int]:
    middle = [layer for layer in convolutions if layer.endswith(".conv1")]
    blocks_per_stage = len(middle) // 3
    skipped = {blocks_per_stage, 2 * blocks_per_stage, len(middle) - 1}
    if blocks_per_stage == 9:
        skipped.add(blocks_per_stage - 2)
    return {
        layer: int(ratio * convolutions[layer]) + 1
        for block, layer in enumerate(middle)
        if block not in skipped
    }
