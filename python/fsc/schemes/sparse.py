"""Unstructured schemes: how many single weights each convolution keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import nn

from fsc.networks.operations import ORDINARY
from fsc.networks.wrappers import unwrap
from fsc.schemes.convolutions import check_ignored, convolution_of, counts_left


@dataclass(frozen=True)
class SparseScheme:
    """How many weights a network keeps; shapes stay, the others are zero.

    Attributes:
        name: what reports call it.
        kept: name of each pruned convolution -> number of its weights that stay.
    """

    name: str
    kept: dict[str, int]


def sparse(
    model: nn.Module, pruning_ratio: float | Mapping[str, float], ignored: Collection[str] = ()
) -> SparseScheme:
    """Remove a share of the weights of every convolution, or shares of some.

    "Each layer is treated equally" (Cross Distillation, Bai et al., 2020). Linear layers and biases
    stay whole.

    Args:
        model: the network.
        pruning_ratio: share of the weights to remove, at least 0 and below 1, or name of each
            convolution to prune -> its share; the number that stays is rounded, and at least one
            stays.
        ignored: names of convolutions that stay whole.

    Raises:
        ValueError: a ratio outside [0, 1), a name that is no convolution, or nothing to prune.

    Example:
        >>> sparse(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), 0.75).kept
        {'0': 27, '2': 2}
    """
    model = unwrap(model)
    check_ignored("sparse", ignored, model)
    sizes = {n: m.weight.numel() for n, m in model.named_modules() if isinstance(m, ORDINARY)}
    kept = counts_left("sparse", sizes, pruning_ratio, ignored)
    if isinstance(pruning_ratio, Mapping):
        return SparseScheme("sparse", kept)
    return SparseScheme(f"sparse-{round(100 * pruning_ratio, 4):g}", kept)


def check_sparse(scheme: SparseScheme, model: nn.Module) -> None:
    """Make sure that a scheme fits a network, before any work is done.

    Raises:
        ValueError: the scheme is empty, a layer does not exist or is no convolution, or a count is
            no integer, below one or above the weights that there are.
    """
    if not scheme.kept:
        raise ValueError(f"scheme {scheme.name!r} prunes no layer")
    for layer, count in scheme.kept.items():
        module = convolution_of(model, layer, scheme.name)
        if type(count) is not int or not 1 <= count <= module.weight.numel():
            raise ValueError(
                f"scheme {scheme.name!r}: layer {layer!r} must keep 1 to "
                f"{module.weight.numel()} weights, got {count!r}"
            )
