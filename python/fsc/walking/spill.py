"""How much a walk holds at once, to know before it begins whether the disk has room for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from fsc.images.checks import device_of
from fsc.networks.out_of_place import stepping
from fsc.networks.tracing import trace
from fsc.walking.activations import run_shortcuts_first


@dataclass(frozen=True)
class Bytes:
    """Of the values of one network, for one image.

    Attributes:
        held: by a walk at once, at most.
        largest: of a single value.
    """

    held: int
    largest: int


def bytes_of_walk(model: nn.Module, image: Tensor) -> Bytes:
    """What a walk over one image takes for one network.

    A walk of teacher and student over N images holds at most 2·N times as much; what exceeds its
    memory budget, less room to work in, goes to disk.

    Args:
        model: the teacher, which runs once.
        image: [1, C, H, W], moved to the device of the network.

    Example:
        >>> import torch
        >>> bytes_of_walk(nn.Sequential(nn.ReLU(), nn.Flatten()), torch.zeros(1, 1, 5, 5))
        Bytes(held=100, largest=100)
    """
    graph = trace(model)
    run_shortcuts_first(model, graph)
    # A storage of its own: views of what many images share would weigh as much as all of them.
    image = image.clone().to(device_of(model, image))
    with stepping(model):
        interpreter = _Weighing(model, graph=graph)
        interpreter.run(image)
    return Bytes(interpreter.held, interpreter.largest)


class _Weighing(fx.Interpreter):
    """Weighs the values that are still to be read after every node."""

    held = largest = 0

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
        self.held = max(self.held, sum(storages.values()))
        self.largest = max(self.largest, *storages.values(), 0)
        return value
