"""What a network costs after a cut that is never made: counted from the shapes it would leave."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fsc.channels.groups import ChannelGroup, Slot
from fsc.networks.cost import Size
from fsc.networks.modes import evaluation_mode


class CutCost:
    """Counts parameters and multiply-accumulates for any number of cuts of one network.

    Args:
        model: a network as it was built; only shapes count, its weights may hold anything. Its
            batch normalization is taken to shift by zero.
        example_inputs: one image [1, C, H, W] where the network is.
        groups: its channel groups; layers must be without groups of their own.
    """

    def __init__(
        self, model: nn.Module, example_inputs: Tensor, groups: Sequence[ChannelGroup]
    ) -> None:
        """Runs the network once, to see how often each layer applies its weight."""
        self.groups = {group.name: group for group in groups}
        self.shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        norms = (name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d))
        self.shifts = {f"{name}.bias" for name in norms}
        self.positions = _positions(model, example_inputs)

    def size(self, kept: Mapping[str, int], weights_kept: Mapping[str, int]) -> Size:
        """Return what a cut leaves.

        Args:
            kept: name of each group that loses channels -> how many stay.
            weights_kept: single weights that are not zero of each convolution that loses some.
        """
        shapes = dict(self.shapes)
        for name, count in kept.items():
            self._cut(shapes, self.groups[name], count)
        numbers = {name: math.prod(shape) for name, shape in shapes.items()}
        parameters = sum(numbers.values())
        zeros = sum(number for name, number in numbers.items() if name in self.shifts)
        zeros += sum(numbers[f"{name}.weight"] - count for name, count in weights_kept.items())
        flops = sum(
            positions * numbers[f"{name}.weight"] for name, positions in self.positions.items()
        )
        return Size(parameters, parameters - zeros, flops)

    @staticmethod
    def _cut(shapes: dict[str, tuple[int, ...]], group: ChannelGroup, count: int) -> None:
        for slot in group.slots:
            lost = (group.size - count) * _repeats(slot, group)
            if slot.role == "reader":
                rows, columns, *kernel = shapes[f"{slot.name}.weight"]
                shapes[f"{slot.name}.weight"] = (rows, columns - lost, *kernel)
                continue
            for key in (f"{slot.name}.weight", f"{slot.name}.bias"):
                if key in shapes:
                    shapes[key] = (shapes[key][0] - lost, *shapes[key][1:])


def _repeats(slot: Slot, group: ChannelGroup) -> int:
    """How many indices of a module each channel that may go is."""
    found = group.free[slot.channels[slot.channels >= 0]]
    return int(found.sum()) // int(group.free.sum())


def _positions(model: nn.Module, image: Tensor) -> dict[str, int]:
    """How often each layer applies its whole weight to one image: its output pixels."""
    found: dict[str, int] = {}

    def watch(name: str, layer: nn.Module) -> RemovableHandle:
        def count(layer: nn.Module, inputs: object, output: Tensor) -> None:
            sizes = output.shape[2:] if isinstance(layer, nn.Conv2d) else output.shape[1:-1]
            found[name] = math.prod(sizes)

        return layer.register_forward_hook(count)

    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    hooks = [watch(name, layer) for name, layer in layers]
    try:
        with evaluation_mode(model), torch.no_grad():
            # A batch of no images has the sizes of one and costs nothing.
            model(image[:0])
    finally:
        for hook in hooks:
            hook.remove()
    return found
