"""The layers that a scheme names, and what shares of them come to."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import nn

from fsc.arguments import check_module, check_names
from fsc.networks.operations import ORDINARY


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


def check_ignored(function: str, ignored: Collection[str], model: nn.Module) -> None:
    """Make sure that what a scheme ignores exists.

    Raises:
        ValueError: a name is no convolution of the model.
        TypeError: there is no model, or no collection of names.
    """
    check_module(f"{function}: model", model)
    check_names(f"{function}: ignored", ignored)
    names = {name for name, module in model.named_modules() if isinstance(module, ORDINARY)}
    for name in ignored:
        if name not in names:
            raise ValueError(
                f"{function}: ignored must name convolutions of the model, got {name!r}"
            )


def check_shares(function: str, pruning_ratio: float | Mapping[str, float]) -> None:
    """Make sure that shares are such.

    Raises:
        ValueError: one is below 0, 1 or above, or NaN.
    """
    given = pruning_ratio if isinstance(pruning_ratio, Mapping) else {"": pruning_ratio}
    for name, share in given.items():
        if not isinstance(share, int | float):
            raise TypeError(f"{function}: pruning_ratio must be numbers, got {share!r}")
        if not 0 <= share < 1:
            where = f" for {name}" if name else ""
            raise ValueError(
                f"{function}: pruning_ratio must be at least 0 and below 1, got {share}{where}"
            )


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
    shares = pruning_ratio
    if not isinstance(shares, Mapping):
        shares = {name: shares for name in sizes if name not in ignored}
    for name in shares:
        if name not in sizes:
            raise ValueError(
                f"{function}: pruning_ratio must name convolutions that can lose something, "
                f"got {name!r}"
            )
        if name in ignored:
            raise ValueError(
                f"{function}: pruning_ratio must name no layer that is ignored, got {name!r}"
            )
    check_shares(function, shares)
    kept = {name: max(1, round(sizes[name] * (1 - share))) for name, share in shares.items()}
    if not kept:
        raise ValueError(
            f"{function}: pruning_ratio and ignored must leave a convolution to prune, got none"
        )
    return kept
