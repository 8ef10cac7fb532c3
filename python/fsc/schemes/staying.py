"""Which layers keep all of the channels that they make, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import nn

from fsc.channels.groups import ChannelGroup
from fsc.channels.propagation import AT_OUTPUT
from fsc.networks.operations import CONVOLUTION
from fsc.networks.tracing import shared_layers, trace
from fsc.scheme_tables import Style
from fsc.schemes.reasons import IGNORED, why_whole
from fsc.schemes.styles import is_pruned

SPARED = "several layers make them together, which style='normal' leaves whole"
# What a user asked for, and what every network has: nothing to warn of.
_EXPECTED = (IGNORED, SPARED, AT_OUTPUT)


def staying(
    model: nn.Module,
    groups: Sequence[ChannelGroup],
    left_alone: Collection[str] = (),
    style: Style = "residual",
) -> dict[str, str]:
    """Name of each convolution and Linear whose channels all stay -> why, to follow "because".

    Args:
        model: the network, in plain modules.
        groups: its channel groups.
        left_alone: names of layers that keep all channels that they make.
        style: which of the channels that can go are to go.
    """
    filters = {n for n, m in model.named_modules() if isinstance(m, CONVOLUTION | nn.Linear)}
    found = apart(model, groups)
    for group in groups:
        reason, by = why_whole(group), ignored_in(group, left_alone)
        if reason is None and by is not None:
            reason = f"they go with those of {by!r}, which is ignored"
        if reason is None and not is_pruned(style, group):
            reason = SPARED
        if reason is not None:
            layers = group.named("writer") + group.named("carrier")
            found |= {layer: reason for layer in layers if layer in filters}
    found |= {layer: IGNORED for layer in found if is_in(layer, left_alone)}
    return dict(sorted(found.items()))


def unexpected(reasons: Mapping[str, str]) -> dict[str, str]:
    """The layers that stay for another reason than that they were to."""
    return {name: reason for name, reason in reasons.items() if reason not in _EXPECTED}


def apart(model: nn.Module, groups: Sequence[ChannelGroup]) -> dict[str, str]:
    """Name of each layer that neither makes nor filters channels of a group -> why.

    Args:
        model: the network, in plain modules.
        groups: its channel groups.
    """
    graph = trace(model)
    called = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    shared = shared_layers(model, graph)
    together = {n for group in groups for n in group.named("writer") + group.named("carrier")}
    reasons = {}
    for name, module in model.named_modules():
        if isinstance(module, CONVOLUTION | nn.Linear) and name not in together:
            other = "it filters channels that no layer makes, such as those of the images"
            uncalled = "the network never calls it as a layer"
            reasons[name] = shared.get(name, other if name in called else uncalled)
    return reasons


def ignored_in(group: ChannelGroup, left_alone: Collection[str]) -> str | None:
    """The first layer that makes or carries the channels of a group and is to be left alone."""
    roles = (slot.name for slot in group.slots if slot.role != "reader")
    return next((name for name in roles if is_in(name, left_alone)), None)


def is_in(layer: str, names: Collection[str]) -> bool:
    """Whether a layer is one of some names, or in one of them."""
    # What is rewritten in plain layers is called after what it was: "stem.norm" of "stem".
    return any(layer == name or layer.startswith(f"{name}.") for name in names)
