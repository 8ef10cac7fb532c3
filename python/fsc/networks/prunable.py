"""Which convolutions can lose output channels: the rule of schemes and of surgery."""

from __future__ import annotations

from torch import fx, nn

from fsc.networks.tracing import consumers, layer_names


def readers_if_prunable(model: nn.Module, graph: fx.Graph, name: str) -> list[str]:
    """Return the layers that lose input channels when a convolution loses output channels.

    Args:
        model: the network.
        graph: its graph from `tracing.trace`.
        name: a Conv2d of it.

    Raises:
        ValueError: the network never calls the layer, it or a layer that reads it is grouped, or
            its channels reach an addition, a concatenation or the output of the network.
    """
    if name not in layer_names(model, graph):
        raise ValueError(f"layer {name!r} must be called by the network, got no call of it")
    # Grouped layers tie channels together, and what adds or joins channels ties layers together.
    _check_ungrouped(model, name, name)
    readers = consumers(model, graph, name)
    for reader in readers:
        _check_ungrouped(model, name, reader)
    return readers


def _check_ungrouped(model: nn.Module, name: str, layer: str) -> None:
    groups = getattr(model.get_submodule(layer), "groups", 1)
    if groups != 1:
        raise ValueError(
            f"layer {name!r} and its consumers must not be grouped, got {groups} groups in "
            f"{layer!r}"
        )
