"""A network with its graph, its layers by name, and the shapes of all values for one image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from fsc.networks.modes import evaluation_mode
from fsc.networks.operations import ADDITION, BATCH_NORM, CONVOLUTION, IDENTITY, LAYER, only_user
from fsc.networks.tracing import shared_layers


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
        with evaluation_mode(model), torch.no_grad():
            recorder.run(example)
        self.shapes = recorder.shapes
        self.nodes = {str(n.target): n for n in graph.nodes if LAYER.matches(model, n)}

    def module(self, name: str) -> Any:
        """A module by name."""
        return self.model.get_submodule(name)

    def channels(self, name: str) -> int:
        """How many channels a layer gives."""
        layer = self.module(name)
        return int(getattr(layer, "out_features", None) or layer.out_channels)

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
