"""From a scheme to what each layer may keep."""

from typing import Protocol

import torch
from torch import Tensor, nn

from fsc import tracing
from fsc.methods.layer_problem import Axis, Plan, Solution
from fsc.schemes import AnyScheme, QuantizedScheme, Scheme, SparseScheme


class Plans(Protocol):
    """What every layer may keep, and what it kept."""

    choosing: set[str]  # the layers that the scheme makes smaller on the side they solve for
    kept: dict[str, Tensor]  # the kept output channels of every producer that lost some

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """What a layer may keep."""

    def remember(self, name: str, solution: Solution) -> None:
        """Takes down what a layer kept."""


class SparsePlans:
    """Single weights go; every layer keeps its shape."""

    def __init__(self, scheme: SparseScheme) -> None:
        """Every layer of the scheme chooses."""
        self.counts = scheme.kept
        self.choosing = set(scheme.kept)
        self.kept: dict[str, Tensor] = {}

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """All channels, and the number of weights where the scheme names the layer."""
        return Plan(torch.arange(layer.in_channels), num_weights=self.counts.get(name))

    def remember(self, name: str, solution: Solution) -> None:
        """No channel went."""


class QuantizedPlans:
    """Weights are written on few bits; every layer keeps its shape."""

    def __init__(self, scheme: QuantizedScheme) -> None:
        """Every layer of the scheme is solved for."""
        self.bits = scheme.bits
        self.choosing = set(scheme.bits)
        self.kept: dict[str, Tensor] = {}

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """All channels, and the bits where the scheme names the layer."""
        return Plan(torch.arange(layer.in_channels), bits=self.bits.get(name))

    def remember(self, name: str, solution: Solution) -> None:
        """No channel went."""


class InputChannelPlans:
    """Channels go where they are read: the reader of a producer chooses among them.

    Raises:
        ValueError: a producer of the scheme does not have exactly one reader.
    """

    def __init__(self, scheme: Scheme, teacher: nn.Module) -> None:
        """Finds who reads what each producer of the scheme writes."""
        self.counts = scheme.kept
        self.producer_of = _single_readers(scheme, teacher)
        self.choosing = set(self.producer_of)
        self.kept: dict[str, Tensor] = {}

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """All channels, and how many of them stay where the layer reads a pruned producer."""
        producer = self.producer_of.get(name)
        count = None if producer is None else self.counts[producer]
        return Plan(torch.arange(layer.in_channels), num_channels=count)

    def remember(self, name: str, solution: Solution) -> None:
        """The channels that a reader kept are those that its producer keeps writing."""
        if name in self.producer_of:
            self.kept[self.producer_of[name]] = solution.channels


class OutputFilterPlans:
    """Channels go where they are written: the producer chooses among its filters.

    Raises:
        ValueError: a producer of the scheme does not have exactly one reader.
    """

    def __init__(self, scheme: Scheme, teacher: nn.Module) -> None:
        """Finds who reads what each producer of the scheme writes."""
        self.counts = scheme.kept
        self.producer_of = _single_readers(scheme, teacher)
        self.choosing = set(self.producer_of) | set(scheme.kept)
        self.kept: dict[str, Tensor] = {}

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """The channels that are still written, and how many filters stay."""
        producer = self.producer_of.get(name)
        channels = torch.arange(layer.in_channels) if producer is None else self.kept[producer]
        return Plan(channels, num_filters=self.counts.get(name))

    def remember(self, name: str, solution: Solution) -> None:
        """The filters that a producer kept."""
        if name in self.counts:
            self.kept[name] = solution.filters


def plans_of(scheme: AnyScheme, axis: Axis, teacher: nn.Module) -> Plans:
    """The plans of a scheme; the axis says on which side of a pruned channel the choice falls."""
    if isinstance(scheme, SparseScheme):
        return SparsePlans(scheme)
    if isinstance(scheme, QuantizedScheme):
        return QuantizedPlans(scheme)
    by_readers = axis == "input_channels"
    return (InputChannelPlans if by_readers else OutputFilterPlans)(scheme, teacher)


def _single_readers(scheme: Scheme, teacher: nn.Module) -> dict[str, str]:
    """The one layer that reads each producer of the scheme: {reader: producer}."""
    graph = tracing.trace(teacher)
    producers = {}
    for producer in scheme.kept:
        readers = tracing.consumers(teacher, graph, producer)
        if len(readers) != 1 or not isinstance(teacher.get_submodule(readers[0]), nn.Conv2d):
            raise ValueError(
                "scheme must name convolutions that one convolution reads, got "
                f"{producer}, read by {', '.join(readers) or 'nothing'}"
            )
        producers[readers[0]] = producer
    return producers
