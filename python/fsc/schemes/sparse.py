"""Unstructured schemes: how many single weights each convolution keeps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from numbers import Integral

from torch import nn

from fsc.schemes.convolutions import convolution_of


@dataclass(frozen=True)
class SparseScheme:
    """How many weights a network keeps; shapes stay, the others are zero.

    Attributes:
        name: what reports call it.
        kept: name of each pruned convolution -> number of its weights that stay.
    """

    name: str
    kept: dict[str, int]


def sparse(model: nn.Module, pruning_ratio: float, ignored: Collection[str] = ()) -> SparseScheme:
    """Remove the same share of the weights of every convolution.

    "Each layer is treated equally" (Cross Distillation, Bai et al., 2020). Linear layers and biases
    stay whole.

    Args:
        model: the network.
        pruning_ratio: share of the weights to remove, at least 0 and below 1; the number that
            stays is rounded, and at least one stays.
        ignored: names of convolutions that stay whole.

    Raises:
        ValueError: a ratio outside [0, 1), a name that is no convolution, or nothing to prune.

    Example:
        >>> sparse(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), 0.75).kept
        {'0': 27, '2': 2}
    """
    if not 0 <= pruning_ratio < 1:
        raise ValueError(
            f"sparse: pruning_ratio must be at least 0 and below 1, got {pruning_ratio}"
        )
    sizes = {n: m.weight.numel() for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    for name in ignored:
        if name not in sizes:
            raise ValueError(f"sparse: ignored must name convolutions of the model, got {name!r}")
    kept = {
        name: max(1, round(size * (1 - pruning_ratio)))
        for name, size in sizes.items()
        if name not in ignored
    }
    if not kept:
        raise ValueError("sparse: model must contain a Conv2d that is not ignored, got none")
    return SparseScheme(f"sparse-{round(100 * pruning_ratio, 4):g}", kept)


def check_sparse(scheme: SparseScheme, model: nn.Module) -> None:
    """Make sure that a scheme fits a network, before any work is done.

    Raises:
        ValueError: the scheme is empty, a layer does not exist or is no Conv2d, or a count is no
            integer, below one or above the weights that there are.
    """
    if not scheme.kept:
        raise ValueError(f"scheme {scheme.name!r} prunes no layer")
    for layer, count in scheme.kept.items():
        module = convolution_of(model, layer, scheme.name)
        whole = isinstance(count, Integral) and not isinstance(count, bool)
        if not whole or not 1 <= count <= module.weight.numel():
            raise ValueError(
                f"scheme {scheme.name!r}: layer {layer!r} must keep 1 to "
                f"{module.weight.numel()} weights, got {count!r}"
            )
