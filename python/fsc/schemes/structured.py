"""Structured schemes: how many output channels each convolution keeps."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from torch import fx, nn

from fsc.networks import tracing
from fsc.networks.prunable import readers_if_prunable
from fsc.networks.wrappers import unwrap
from fsc.schemes.convolutions import check_ignored, convolution_of, counts_left
from fsc.schemes.reasons import commonest


@dataclass(frozen=True)
class Scheme:
    """How many output channels a network keeps; schemes that keep the same are equal.

    Attributes:
        name: what reports call it.
        kept: name of each pruned convolution -> number of its output channels that stay.
        pruning_ratio: the share of all channels that was asked for; None where each layer has a
            number of its own.
        held_back: name of each convolution that was to lose that share and cannot -> why.
    """

    name: str
    kept: dict[str, int]
    pruning_ratio: float | None = field(default=None, compare=False)
    held_back: dict[str, str] = field(default_factory=dict, compare=False)


def structured(
    model: nn.Module, pruning_ratio: float | Mapping[str, float], ignored: Collection[str] = ()
) -> Scheme:
    """Remove a share of the output channels of every convolution that can lose some.

    These are the convolutions that one other convolution reads, both without groups; what reaches
    an addition, a concatenation or a Linear layer stays whole.

    Args:
        model: the network.
        pruning_ratio: share of the channels to remove, at least 0 and below 1, or name of each
            convolution to prune -> its share; the number that stays is rounded, and at least one
            stays.
        ignored: names of convolutions that stay whole.

    Raises:
        ValueError: a ratio outside [0, 1), a name that is no convolution, or nothing to prune; the
            sentence then has the commonest reason.

    Example:
        >>> structured(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), 0.5).kept
        {'0': 2}
    """
    model = unwrap(model)
    check_ignored("structured", ignored, model)
    sizes = {n: m.out_channels for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    if isinstance(pruning_ratio, Mapping):
        return Scheme("structured", counts_left("structured", sizes, pruning_ratio, ignored))
    graph = tracing.trace(model)
    asked = [name for name in sizes if name not in ignored]
    reasons = {name: _held_back(model, graph, name) for name in asked}
    held_back = {name: reason for name, reason in reasons.items() if reason is not None}
    if asked and len(held_back) == len(asked):
        raise ValueError(
            "structured: model must have a convolution that can lose output channels, got none "
            f"among {len(asked)}; {commonest(held_back)}"
        )
    prunable = {name: size for name, size in sizes.items() if name not in held_back}
    kept = counts_left("structured", prunable, pruning_ratio, ignored)
    name = f"structured-{round(100 * pruning_ratio, 4):g}"
    return Scheme(name, kept, pruning_ratio, held_back)


def _held_back(model: nn.Module, graph: fx.Graph, name: str) -> str | None:
    """Why a convolution keeps all output channels, or None where it can lose some."""
    try:
        readers = readers_if_prunable(model, graph, name)
    except ValueError as error:
        return str(error)
    if len(readers) != 1:
        return f"layer {name!r} must be read by one convolution, got {len(readers)} readers"
    reader = model.get_submodule(readers[0])
    if isinstance(reader, nn.Conv2d):
        return None
    return (
        f"layer {name!r} must be read by a convolution, got {type(reader).__name__} {readers[0]!r}"
    )


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
    for layer, count in scheme.kept.items():
        module = convolution_of(model, layer, scheme.name)
        if type(count) is not int or not 1 <= count <= module.out_channels:
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
