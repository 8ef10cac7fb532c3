"""How much a walk holds at once, to know before it begins whether the disk has room for it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, fx, nn

from fsc.images.checks import device_of
from fsc.networks.out_of_place import stepping
from fsc.networks.tracing import trace
from fsc.walking.activations import run_shortcuts_first


def largest_frontier(model: nn.Module, image: Tensor) -> int:
    """Bytes of the values that a walk over one image holds for one network at once, at most.

    A walk of teacher and student over N images holds at most 2·N times as many; what exceeds its
    memory budget goes to disk.

    Args:
        model: the teacher, which runs once.
        image: [1, C, H, W], moved to the device of the network.

    Example:
        >>> import torch
        >>> largest_frontier(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.zeros(1, 1, 5, 5))
        100
    """
    graph = trace(model)
    run_shortcuts_first(model, graph)
    with stepping(model):
        interpreter = _Weighing(model, graph=graph)
        interpreter.run(image.to(device_of(model, image)))
    return interpreter.largest


class _Weighing(fx.Interpreter):
    """Weighs the values that are still to be read after every node."""

    largest = 0

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        kept = [value] if n.op.startswith("call_") else []
        kept += [held for node, held in self.env.items() if node.op.startswith("call_")]
        storages: dict[int, int] = {}

        def weigh(leaf: Any) -> Any:
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                storages[storage.data_ptr()] = storage.nbytes()
            return leaf

        fx.node.map_aggregate(kept, weigh)
        self.largest = max(self.largest, sum(storages.values()))
        return value
