"""One network's layers in front of another one's head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, fx, nn


class Replaced(nn.Module):
    """A teacher whose layers before the head have been replaced by a student's.

    Args:
        body: images -> a tuple of features.
        head: images and features -> what the teacher gives.
    """

    def __init__(self, body: nn.Module, head: nn.Module) -> None:
        """Takes both as they are."""
        super().__init__()
        self.body, self.head = body, head

    def forward(self, images: Tensor) -> object:
        """What the head gives for the features of the body."""
        return self.head(images, *self.body(images))


def behind(model: nn.Module, graph: fx.Graph, nodes: Sequence[fx.Node]) -> fx.GraphModule:
    """Return the part of a network that computes its output from the values of some nodes.

    It takes what the network takes, for what does not go through the nodes, and then the values.
    It shares the network's modules, and submodules keep their names.
    """
    made = fx.Graph()
    copies = {n: made.node_copy(n) for n in graph.nodes if n.op == "placeholder"}
    copies |= {n: made.placeholder(f"features_{index}") for index, n in enumerate(nodes)}
    needed: set[fx.Node] = set()
    pending = [n for n in graph.nodes if n.op == "output"]
    while pending:
        node = pending.pop()
        if node not in copies and node not in needed:
            needed.add(node)
            pending += node.all_input_nodes
    for node in graph.nodes:
        if node in needed:
            copies[node] = made.node_copy(node, copies.__getitem__)
    return fx.GraphModule(model, made)
