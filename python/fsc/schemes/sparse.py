"""Unstructured schemes: how many single weights each convolution keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import nn

from fsc.arguments import check_dict, check_text, python_integer
from fsc.networks.operations import ORDINARY
from fsc.networks.wrappers import unwrap
from fsc.schemes.convolutions import as_ignored, convolution_of, counts_left
from fsc.wording import shown


@dataclass(frozen=True)
class SparseScheme:
    """How many weights a network keeps; shapes stay, the others are zero.

    Attributes:
        name: what reports call it.
        kept: name of each pruned convolution -> number of its weights that stay.
    """

    name: str
    kept: dict[str, int]

    def __post_init__(self) -> None:
        """Refuses what names no layers; whether a network has them is asked with the network."""
        check_text("name", self.name)
        check_dict("kept", self.kept)
        own = {layer: python_integer(number) for layer, number in self.kept.items()}
        object.__setattr__(self, "kept", own)


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
    ignored = as_ignored("sparse", ignored, model)
    sizes = {n: m.weight.numel() for n, m in model.named_modules() if isinstance(m, ORDINARY)}
    kept = counts_left("sparse", sizes, pruning_ratio, ignored)
    if isinstance(pruning_ratio, Mapping):
        return SparseScheme("sparse", kept)
    return SparseScheme(f"sparse-{round(100 * pruning_ratio, 4):g}", kept)


def counts_on_the_way(scheme: SparseScheme, model: nn.Module, share: float) -> list[dict[str, int]]:
    """How many weights every layer keeps where a share of them all goes at a time.

    Args:
        scheme: what stays at the end.
        model: the network, whole.
        share: of the weights of a layer, above 0.

    Returns:
        Counts after every pruning; the last are those of the scheme.

    Example:
        >>> scheme = SparseScheme("mine", {"0": 10, "1": 70})
        >>> model = nn.Sequential(nn.Conv2d(4, 25, 1), nn.Conv2d(25, 4, 1))
        >>> counts_on_the_way(scheme, model, 0.4)
        [{'0': 60, '1': 70}, {'0': 20, '1': 70}, {'0': 10, '1': 70}]
    """
    sizes = {
        name: model.get_submodule(name).get_parameter("weight").numel() for name in scheme.kept
    }
    found: list[dict[str, int]] = []
    while not found or found[-1] != scheme.kept:
        left = 1 - share * (len(found) + 1)
        found.append({n: max(kept, round(left * sizes[n])) for n, kept in scheme.kept.items()})
    return found


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
                f"{module.weight.numel()} weights, got {shown(count)}"
            )
