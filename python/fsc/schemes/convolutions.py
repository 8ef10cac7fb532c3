"""The layers that a scheme names, and what shares of them come to."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn

from fsc.arguments import as_names, as_number, check_module
from fsc.networks.operations import ORDINARY
from fsc.wording import shown


def convolution_of(
    model: nn.Module, layer: str, scheme_name: str
) -> nn.Conv1d | nn.Conv2d | nn.Conv3d:
    """The convolution that a scheme names.

    Raises:
        ValueError: there is no such layer, or it is no convolution, or a transposed one.
    """
    module = dict(model.named_modules()).get(layer)
    if not isinstance(module, ORDINARY):
        found = "none" if module is None else type(module).__name__
        raise ValueError(
            f"scheme {scheme_name!r}: layer {layer!r} must be a convolution of "
            f"{type(model).__name__}, got {found}"
        )
    return module


def as_ignored(function: str, ignored: Collection[str], model: nn.Module) -> tuple[str, ...]:
    """What a scheme ignores, whatever holds the names, all of which exist.

    Raises:
        ValueError: a name is no convolution of the model.
        TypeError: there is no model, or no collection of names.
    """
    check_module(f"{function}: model", model)
    found = as_names(f"{function}: ignored", ignored)
    names = {name for name, module in model.named_modules() if isinstance(module, ORDINARY)}
    for name in found:
        if name not in names:
            raise ValueError(
                f"{function}: ignored must name convolutions of the model, got {shown(name)}"
            )
    return found


def as_shares(
    function: str, pruning_ratio: float | Mapping[str, float]
) -> float | dict[str, float]:
    """One share of all layers, or those of some, as Python's own numbers.

    Raises:
        ValueError: one is below 0, 1 or above, or NaN.
        TypeError: one is no number.
    """
    if isinstance(pruning_ratio, Mapping):
        return {n: as_share(function, each, f" for {n}") for n, each in pruning_ratio.items()}
    return as_share(function, pruning_ratio)


def as_share(function: str, value: Any, where: str = "") -> float:
    """A share of the channels or weights that goes, as Python's own number.

    Raises:
        ValueError: it is below 0, 1 or above, or NaN.
        TypeError: it is no number.
    """
    share = as_number(f"{function}: pruning_ratio", value)
    if not 0 <= share < 1:
        raise ValueError(
            f"{function}: pruning_ratio must be at least 0 and below 1, got {share}{where}"
        )
    return share


def counts_left(
    function: str,
    sizes: Mapping[str, int],
    pruning_ratio: float | Mapping[str, float],
    ignored: Collection[str],
) -> dict[str, int]:
    """What a share of each layer leaves: rounded, at least one.

    Args:
        function: who asks, for the sentence.
        sizes: name of each layer that can lose something -> how much there is.
        pruning_ratio: share to remove of all of them, or name -> share to remove of some.
        ignored: names of layers that stay whole.

    Raises:
        ValueError: a share outside [0, 1), a name that is not in `sizes` or is ignored, or nothing
            to prune.
    """
    shares = as_shares(function, pruning_ratio)
    if not isinstance(shares, dict):
        shares = {name: shares for name in sizes if name not in ignored}
    for name in shares:
        if name not in sizes:
            raise ValueError(
                f"{function}: pruning_ratio must name convolutions that can lose something, "
                f"got {shown(name)}"
            )
        if name in ignored:
            raise ValueError(
                f"{function}: pruning_ratio must name no layer that is ignored, got {shown(name)}"
            )
    kept = {name: max(1, round(sizes[name] * (1 - share))) for name, share in shares.items()}
    if not kept:
        raise ValueError(
            f"{function}: pruning_ratio and ignored must leave a convolution to prune, got none"
        )
    return kept
