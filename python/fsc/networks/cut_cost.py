"""What a network costs after a cut that is never made: counted from the shapes it would leave."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fsc.networks.cost import Size
from fsc.networks.modes import evaluation_mode
from fsc.networks.prunable import readers_if_prunable
from fsc.networks.tracing import batch_norm_after, trace


class CutCost:
    """Counts parameters and multiply-accumulates for any number of cuts of one network.

    Args:
        model: a network as it was built; only shapes count, its weights may hold anything. Its
            batch normalization is taken to shift by zero.
        example_inputs: one image [1, C, H, W] where the network is.

    Raises:
        ValueError: the network cannot be traced.
    """

    def __init__(self, model: nn.Module, example_inputs: Tensor) -> None:
        """Runs the network once, to see how often each layer applies its weight."""
        self.model, self.graph = model, trace(model)
        self.shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        norms = (name for name, m in model.named_modules() if isinstance(m, nn.BatchNorm2d))
        self.shifts = {f"{name}.bias" for name in norms}
        self.positions = _positions(model, example_inputs)

    def size(self, kept: Mapping[str, int], weights_kept: Mapping[str, int]) -> Size:
        """Return what a cut leaves.

        Args:
            kept: output channels that stay of each convolution that loses some.
            weights_kept: single weights that are not zero of each convolution that loses some.

        Raises:
            ValueError: a convolution cannot lose channels.
        """
        shapes = dict(self.shapes)
        for name, count in kept.items():
            self._cut(shapes, name, count)
        numbers = {name: math.prod(shape) for name, shape in shapes.items()}
        parameters = sum(numbers.values())
        zeros = sum(number for name, number in numbers.items() if name in self.shifts)
        zeros += sum(numbers[f"{name}.weight"] - count for name, count in weights_kept.items())
        flops = sum(
            positions * numbers[f"{name}.weight"] for name, positions in self.positions.items()
        )
        return Size(parameters, parameters - zeros, flops)

    def _cut(self, shapes: dict[str, tuple[int, ...]], name: str, count: int) -> None:
        before = self.shapes[f"{name}.weight"][0]
        for layer in (name, batch_norm_after(self.model, self.graph, name)):
            for key in (f"{layer}.weight", f"{layer}.bias"):
                if key in shapes:
                    shapes[key] = (count, *shapes[key][1:])
        for reader in readers_if_prunable(self.model, self.graph, name):
            rows, columns, *kernel = shapes[f"{reader}.weight"]
            # A Linear behind a flattening reads several values of each channel.
            shapes[f"{reader}.weight"] = (rows, columns // before * count, *kernel)


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
