"""The layers of a network that can end a block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import fx, nn

from fsc.layers.pointwise_layer import mixes
from fsc.networks.observed import Observed
from fsc.networks.operations import CONVOLUTION
from fsc.networks.tracing import ancestors

Blocks = Literal["convolutions", "residual", "decoupled", "stages"]
BLOCKS: tuple[Blocks, ...] = ("convolutions", "residual", "decoupled", "stages")


def ending_layers(student: Observed, blocks: Blocks) -> list[str]:
    """The layers of a student that end a block, in execution order."""
    names = [n for n in student.nodes if mixes(student.module(n)) and not is_flat(student, n)]
    if blocks == "decoupled":
        convolutions = [n for n in names if isinstance(student.module(n), CONVOLUTION)]
        return [n for n in convolutions if student.is_behind_depthwise(n)]
    if blocks == "convolutions":
        return names
    chosen = longest(student, names)
    return [name for name in names if name in chosen]


def longest(student: Observed, names: Sequence[str]) -> set[str]:
    """The last layers of branches that are added to something."""
    # Of two branches that end in a layer each the longer one is the block.
    found: dict[fx.Node, tuple[int, str]] = {}
    for name in names:
        addition = student.addition(name)
        if addition is not None:
            length = len(list(ancestors(student.nodes[name])))
            found[addition] = max(found.get(addition, (0, "")), (length, name))
    return {name for _, name in found.values()}


def is_flat(network: Observed, name: str) -> bool:
    """Whether a layer is a Linear that sees one column an image."""
    is_linear = isinstance(network.module(name), nn.Linear)
    return is_linear and len(network.shapes[network.nodes[name]]) == 1
