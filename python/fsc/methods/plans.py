"""From a scheme to what each layer may keep."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from torch import Tensor, nn

from fsc.layers.layer_problem import Axis, Plan, Solution, all_channels
from fsc.networks import tracing
from fsc.schemes import AnyScheme, QuantizedScheme, Scheme, SparseScheme

# Name of each layer of a scheme -> the output channels, or single weights, that stay.
Support = Mapping[str, Sequence[int]]


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

    def __init__(self, scheme: SparseScheme, support: Support | None) -> None:
        """Every layer of the scheme chooses, or keeps what is given."""
        self.counts = scheme.kept
        self.support = support
        self.choosing = set(scheme.kept)
        self.kept: dict[str, Tensor] = {}

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """All channels, and the weights or their number where the scheme names the layer."""
        if self.support is not None and name in self.support:
            channels = all_channels(layer)
            return Plan(channels, weights=channels.new_tensor(sorted(self.support[name])))
        return Plan(all_channels(layer), num_weights=self.counts.get(name))

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
        return Plan(all_channels(layer), bits=self.bits.get(name))

    def remember(self, name: str, solution: Solution) -> None:
        """No channel went."""


class InputChannelPlans:
    """Channels go where they are read: the reader of a producer chooses among them.

    Raises:
        ValueError: a producer of the scheme does not have exactly one reader.
    """

    def __init__(self, scheme: Scheme, support: Support | None, teacher: nn.Module) -> None:
        """Finds who reads what each producer of the scheme writes."""
        self.counts = scheme.kept
        self.support = support
        self.producer_of = _single_readers(scheme, teacher)
        self.choosing = set(self.producer_of)
        self.kept: dict[str, Tensor] = {}

    def plan(self, name: str, layer: nn.Conv2d) -> Plan:
        """The channels, or how many of them stay where the layer reads a pruned producer."""
        producer = self.producer_of.get(name)
        if self.support is not None and producer is not None:
            return Plan(all_channels(layer).new_tensor(sorted(self.support[producer])))
        count = None if producer is None else self.counts[producer]
        return Plan(all_channels(layer), num_channels=count)

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
        channels = all_channels(layer) if producer is None else self.kept[producer]
        return Plan(channels, num_filters=self.counts.get(name))

    def remember(self, name: str, solution: Solution) -> None:
        """The filters that a producer kept."""
        if name in self.counts:
            self.kept[name] = solution.filters


def plans_of(scheme: AnyScheme, axis: Axis, support: Support | None, teacher: nn.Module) -> Plans:
    """The plans of a scheme; the axis says on which side of a pruned channel the choice falls.

    Raises:
        ValueError: a producer of the scheme does not have exactly one reader, or the support does
            not go with the scheme.
    """
    if support is not None:
        _check_support(scheme, support, teacher)
    if isinstance(scheme, SparseScheme):
        return SparsePlans(scheme, support)
    if isinstance(scheme, QuantizedScheme):
        return QuantizedPlans(scheme)
    if axis == "input_channels" or support is not None:
        return InputChannelPlans(scheme, support, teacher)
    return OutputFilterPlans(scheme, teacher)


def _check_support(scheme: AnyScheme, support: Support, teacher: nn.Module) -> None:
    if isinstance(scheme, QuantizedScheme):
        raise ValueError(f"support must be None for a quantized scheme, got {len(support)} layers")
    if set(support) != set(scheme.kept):
        name = min(set(support) ^ set(scheme.kept))
        where = "only in the support" if name in support else "only in the scheme"
        raise ValueError(f"support must name the layers of the scheme, got {name!r} {where}")
    for name, given in support.items():
        weight = teacher.get_submodule(name).get_parameter("weight")
        size = weight.numel() if isinstance(scheme, SparseScheme) else len(weight)
        count = scheme.kept[name]
        inside = [index for index in given if type(index) is int and 0 <= index < size]
        if len(set(inside)) != count or len(given) != count:
            raise ValueError(
                f"support must hold {count} different integers in [0, {size}) for {name}, as the "
                f"scheme says, got {len(given)} values, {len(set(inside))} of them such"
            )


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
