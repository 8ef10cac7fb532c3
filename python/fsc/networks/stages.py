"""Where the stages of a network end: the last place of every size of its feature maps."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from fsc.networks import tracing
from fsc.networks.features import reader_of
from fsc.networks.operations import LAYER, reads_shape
from fsc.networks.out_of_place import stepping
from fsc.networks.outputs import tensors_of


def stage_ends(
    model: nn.Module, graph: fx.Graph, example: Tensor, name: str = "teacher"
) -> list[fx.Node]:
    """Return the nodes of the last feature map of every size, where nothing goes past it.

    What goes around a node, such as a shortcut, makes it no end. Maps of one pixel do not count,
    nor do those that no layer has made or none reads.

    Args:
        model: the module that the graph was traced from.
        graph: its graph.
        example: an image, [1, C, ...].
        name: what the network is called, for the sentence.

    Returns:
        Nodes in execution order.

    Raises:
        ValueError: the network has no such place.
    """
    values = _Values(model, graph)
    with stepping(model):
        values.run(example)
    nodes = list(graph.nodes)
    places = {node: index for index, node in enumerate(nodes)}
    last_use = -1  # of whatever was computed before a node
    ends: dict[tuple[int, ...], fx.Node] = {}
    for index, node in enumerate(nodes):
        if node not in values.shapes:
            continue
        shape = values.shapes[node]
        alone = last_use <= index
        users = [places[user] for user in node.users if not reads_shape(user)]
        last_use = max([last_use, *users])
        if alone and len(shape) > 2 and max(shape[2:]) > 1 and _is_inside(model, node):
            ends[shape[2:]] = node
    if not ends:
        raise ValueError(
            f"{name} must have a place between layers that everything passes, with feature maps "
            "of more than one pixel, for hints, got none"
        )
    return sorted(ends.values(), key=places.__getitem__)


def is_passed_by_all(node: fx.Node) -> bool:
    """Whether a network reads nothing behind a node that it has computed before, but weights."""
    nodes = list(node.graph.nodes)
    place = nodes.index(node)
    later = set(nodes[place + 1 :])
    return not any(
        user in later and not reads_shape(user)
        for each in nodes[:place]
        if each.op != "get_attr"
        for user in each.users
    )


def _is_inside(model: nn.Module, node: fx.Node) -> bool:
    """Whether a layer stands before a node, or is it, and another one reads its channels."""
    before = [node, *tracing.ancestors(node)]
    if not any(LAYER.matches(model, each) for each in before):
        return False
    try:
        reader_of(model, node)
    except ValueError:
        return False
    return True


class _Values(fx.Interpreter):
    """Runs a graph and remembers which nodes hold tensors: their shapes, () for several at once."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph)
        self.shapes: dict[fx.Node, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        if isinstance(found, Tensor):
            self.shapes[n] = tuple(found.shape)
        elif tensors_of(found):
            self.shapes[n] = ()
        return found
