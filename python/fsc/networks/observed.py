"""A network with its graph, its layers by name, and the shapes of all values for one image."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from fsc.networks import surgery
from fsc.networks.operations import ADDITION, BATCH_NORM, CONVOLUTION, IDENTITY, LAYER, only_user
from fsc.networks.out_of_place import stepping
from fsc.networks.tracing import shared_layers, trace
from fsc.networks.wrappers import unwrap

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


class Observed:
    """A network with its graph, and what every node of it gives for one image.

    Args:
        model: with BatchNorm folded.
        graph: of it.
        example: one image.
    """

    def __init__(self, model: nn.Module, graph: fx.Graph, example: Tensor) -> None:
        """Runs it."""
        self.model, self.graph = model, graph
        self.shared = shared_layers(model, graph)
        recorder = _Recorder(model, graph=graph)
        with stepping(model):
            recorder.run(example)
        self.shapes = recorder.shapes
        self.nodes = {str(n.target): n for n in graph.nodes if LAYER.matches(model, n)}

    @classmethod
    def folded(cls, network: nn.Module, example: Tensor) -> Observed:
        """A copy of a network, wrapped or not, with BatchNorm folded, run on one image."""
        model = copy.deepcopy(unwrap(network)).eval()
        surgery.fold_batch_norm(model)
        return cls(model, trace(model), example)

    def module(self, name: str) -> Any:
        """A module by name."""
        return self.model.get_submodule(name)

    def channels(self, name: str) -> int:
        """How many channels a layer gives."""
        layer = self.module(name)
        return int(getattr(layer, "out_features", None) or layer.out_channels)

    def pixels(self, name: str, node: fx.Node | None = None) -> tuple[bool, list[int]]:
        """Whether channels are the last axis of what a layer gives, and the sizes of the others.

        Args:
            name: of the layer.
            node: of which the sizes are; None: of the layer itself.
        """
        is_last = isinstance(self.module(name), nn.Linear)
        shape = self.shapes[self.nodes[name] if node is None else node]
        return is_last, shape[:-1] if is_last else shape[1:]

    def addition(self, name: str) -> fx.Node | None:
        """The addition that alone reads what a layer gives, if there is one."""
        user = self.reader(name)
        if user is None or not ADDITION.matches(self.model, user):
            return None
        return user if len(user.all_input_nodes) == 2 else None

    def reader(self, name: str) -> fx.Node | None:
        """The node that alone reads what a layer gives, Identities passed over."""
        user = only_user(self.nodes[name])
        while user is not None and IDENTITY.matches(self.model, user):
            user = only_user(user)
        return user

    def has_norm(self, name: str) -> bool:
        """Whether a BatchNorm that was not folded alone reads what a layer gives."""
        user = self.reader(name)
        if user is None or user.op != "call_module":
            return False
        return isinstance(self.module(str(user.target)), BATCH_NORM)

    def is_behind_depthwise(self, name: str) -> bool:
        """Whether a layer with 1x1 kernels reads what a depthwise convolution gives."""
        source = self.nodes[name].all_input_nodes[0]
        while IDENTITY.matches(self.model, source):
            source = source.all_input_nodes[0]
        if source.op != "call_module" or any(k > 1 for k in self.module(name).kernel_size):
            return False
        before = self.module(str(source.target))
        return isinstance(before, CONVOLUTION) and before.groups == before.in_channels > 1


def channels_given(
    argument: str, name: str, given: Tensor | Sequence[int], size: int, most: int
) -> Tensor:
    """The channels of the teacher that a caller says a layer of the student has.

    Args:
        argument: that names them, for the sentence.
        name: of the layer.
        given: the channels.
        size: how many the layer has.
        most: how many the teacher's has.

    Returns:
        int64 [size] on the CPU.

    Raises:
        ValueError: they are no integers, not so many, twice the same, or none of the teacher's.
    """
    try:
        found = torch.as_tensor(given, device="cpu")
    except (TypeError, ValueError, RuntimeError):  # whatever is no list of numbers
        found = None
    if found is not None and found.shape == (size,) and found.dtype in _INTEGERS:
        is_within = 0 <= int(found.min()) and int(found.max()) < most
        if is_within and len(found.unique()) == size:
            return found.long()
    raise ValueError(
        f"{argument} of {name!r} must be {size} different integers from 0 to {most - 1}, got "
        f"{given if found is None else found.tolist()!r}"
    )


class _Recorder(fx.Interpreter):
    """Remembers the shapes of all values, without the axis of images."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, graph=graph)
        self.shapes: dict[fx.Node, list[int]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            self.shapes[n] = list(value.shape[1:])
        return value
