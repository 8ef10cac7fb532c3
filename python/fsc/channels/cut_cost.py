"""What a network costs after a cut that is never made: counted from the shapes it would leave."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from fsc.channels.groups import ChannelGroup, Slot
from fsc.channels.labels import NONE
from fsc.networks.calls import call_of, output_of
from fsc.networks.cost import Size
from fsc.networks.operations import BATCH_NORM, CONVOLUTION

Kind = Literal["flops", "parameters"]


class CutCost:
    """Counts parameters and multiply-accumulates for any number of cuts of one network.

    Every parameter has prod over its axes of (size - indices of the channels gone) numbers, and
    every weight of a convolution or Linear is applied at so many pixels.

    Args:
        model: a network; only shapes count, its weights may hold anything.
        example_inputs: one image [1, C, ...] where the network is.
        groups: its channel groups.
        orders: name of a group -> its channels in the order in which they go. It counts where
            layers hold different parts of a group; where it is not given, the first go first.
        zeros: names of parameters that hold zeros alone, such as `shifts` of a network as it was
            built; of the others none is taken for zero.
    """

    def __init__(
        self,
        model: nn.Module,
        example_inputs: Tensor,
        groups: Sequence[ChannelGroup],
        orders: Mapping[str, Tensor] | None = None,
        zeros: Collection[str] = (),
    ) -> None:
        """Runs the network once, to see how often each layer applies its weight."""
        self.groups = {group.name: group for group in groups}
        self.shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        self.owners = _owners(model)
        self.zeros = frozenset(zeros)
        self.pixels = _pixels(model, example_inputs, self.owners)
        # name of the parameter -> axis -> name of each group, indices lost once so many went of it
        self.losses: dict[str, dict[int, dict[str, list[float]]]] = {n: {} for n in self.shapes}
        for group in groups:
            order = (orders or {}).get(group.name, group.free.nonzero().flatten())
            for slot in group.slots:
                for parameter, axis, share in _axes(model, slot):
                    if parameter in self.losses:
                        along = self.losses[parameter].setdefault(axis, {})
                        lost = share * _lost(slot, group, order)
                        if group.name in along:
                            lost = lost + torch.tensor(along[group.name], device="cpu")
                        along[group.name] = lost.tolist()
        self.touched = {
            group.name: [
                name
                for name, axes in self.losses.items()
                if any(group.name in along for along in axes.values())
            ]
            for group in groups
        }

    def size(self, kept: Mapping[str, int], weights_kept: Mapping[str, int]) -> Size:
        """Return what a cut leaves.

        Args:
            kept: name of each group that loses channels -> how many stay.
            weights_kept: single weights that are not zero of each convolution that loses some.
        """
        numbers = {name: self._numel(name, kept) for name in self.shapes}
        parameters = sum(numbers.values())
        zeros = sum(number for name, number in numbers.items() if name in self.zeros)
        left = {self.owners[f"{name}.weight"]: count for name, count in weights_kept.items()}
        zeros += sum(numbers[name] - count for name, count in left.items())
        flops = sum(pixels * numbers[name] for name, pixels in self.pixels.items())
        return Size(parameters, parameters - zeros, flops)

    def saved(self, kind: Kind, kept: Mapping[str, int], group: str, fewer: int) -> int:
        """What it saves to keep fewer channels of one group, where the others are as they are.

        Args:
            kind: what is counted.
            kept: name of each group that loses channels -> how many stay.
            group: name of the group.
            fewer: how many of its channels are to stay.
        """
        then = {**kept, group: fewer}
        return sum(
            (self._numel(name, kept) - self._numel(name, then))
            * (1 if kind == "parameters" else self.pixels.get(name, 0))
            for name in self.touched[group]
        )

    def _numel(self, parameter: str, kept: Mapping[str, int]) -> int:
        sizes = list(self.shapes[parameter])
        for axis, along in self.losses[parameter].items():
            lost = sum(
                indices[self.groups[name].size - kept[name]]
                for name, indices in along.items()
                if name in kept
            )
            sizes[axis] -= round(lost)
        return math.prod(sizes)


def shifts(model: nn.Module) -> list[str]:
    """The parameters by which BatchNorms shift, all zero in a network as it was built."""
    return [f"{n}.bias" for n, module in model.named_modules() if isinstance(module, BATCH_NORM)]


def _owners(model: nn.Module) -> dict[str, str]:
    """Every name of each parameter -> the first: one that several layers share counts once."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    every = model.named_parameters(remove_duplicate=False)
    return {name: first[id(parameter)] for name, parameter in every}


def _axes(model: nn.Module, slot: Slot) -> list[tuple[str, int, float]]:
    """The parameters of a slot: name, axis that loses, indices of it for one of the slot's."""
    if slot.role == "size":
        return []  # a number in a forward costs nothing
    if slot.axis is not None:
        return [(slot.name, slot.axis, 1)]
    weight, bias = f"{slot.name}.weight", f"{slot.name}.bias"
    module = model.get_submodule(slot.name)
    if not isinstance(module, CONVOLUTION | nn.Linear):
        return [(weight, 0, 1), (bias, 0, 1)]  # a normalization or PReLU
    layer: Any = module
    groups, transposed = getattr(layer, "groups", 1), getattr(layer, "transposed", False)
    if slot.role == "carrier":
        multiplier = layer.out_channels // groups
        return [(weight, 0, 1 if transposed else multiplier), (bias, 0, multiplier)]
    outer = (slot.role == "writer") != transposed
    found: list[tuple[str, int, float]] = [(weight, 0, 1) if outer else (weight, 1, 1 / groups)]
    return [*found, (bias, 0, 1)] if slot.role == "writer" else found


def _lost(slot: Slot, group: ChannelGroup, order: Tensor) -> Tensor:
    """How many indices of a module have gone after each channel, and before, [channels + 1]."""
    counts = slot.channels[slot.channels != NONE].bincount(minlength=group.size)
    return nn.functional.pad(counts[order], (1, 0)).cumsum(0)


def _pixels(model: nn.Module, image: Tensor, owners: Mapping[str, str]) -> dict[str, int]:
    """How often each whole weight is applied to one image, by its first name."""
    found: dict[str, int] = {}

    def watch(name: str, layer: Any) -> RemovableHandle:
        def count(layer: Any, inputs: Any, named: Any, output: Tensor) -> None:
            # Windows or frames may stand where images do: all of them are of one image.
            if getattr(layer, "transposed", False):
                source = inputs[0] if inputs else named["input"]
                times = source.numel() // layer.in_channels
            else:
                wide = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
                times = output.numel() // wide
            found[name] = found.get(name, 0) + times

        return layer.register_forward_hook(count, with_kwargs=True)

    kinds = (CONVOLUTION, nn.Linear)
    layers = [(f"{n}.weight", m) for n, m in model.named_modules() if isinstance(m, kinds)]
    hooks = [watch(owners[name], layer) for name, layer in layers]
    try:
        output_of(model, call_of(image))
    finally:
        for hook in hooks:
            hook.remove()
    return found
