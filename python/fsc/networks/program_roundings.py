"""Whether a program rounds the inputs of a student's convolutions as the student does."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from fsc.images.joint import Inputs
from fsc.networks.calls import call_of, output_of, record_calls
from fsc.networks.quantized_inputs import QuantizedInputConv2d

# Of the inputs of a layer, so many are rounded, evenly spaced ones.
_MOST_VALUES = 2**14
# This share of them may lie more than this share of a step away from the student's.
_SLACK = 1e-3


class Roundings(nn.Module):
    """What layers do to their inputs before they convolve them, column by column."""

    def __init__(self, layers: list[QuantizedInputConv2d]) -> None:
        """Holds the layers themselves."""
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, values: Tensor) -> Tensor:
        """The values [K, L] of L layers, rounded."""
        columns = [layer.quantized(values[:, i]) for i, layer in enumerate(self._each())]
        return torch.stack(columns, 1)

    def steps(self) -> Tensor:
        """Between two values of each layer, [L]."""
        return torch.stack([layer.input_limit / layer.largest for layer in self._each()])

    def slack(self, dtype: torch.dtype) -> Tensor:
        """The slack of each layer, more where its values are large for the dtype, [L]."""
        largest = torch.tensor([float(layer.largest) for layer in self._each()])
        return (largest * torch.finfo(dtype).eps).clamp(min=_SLACK)

    def _each(self) -> Iterator[QuantizedInputConv2d]:
        for layer in self.layers:
            assert isinstance(layer, QuantizedInputConv2d)
            yield layer


def rounded_otherwise(
    network: nn.Module, inputs: Inputs, through: Callable[[nn.Module, Inputs], nn.Module]
) -> str | None:
    """What a kind of program rounds otherwise, of what layers of a network read, or None.

    Outputs do not show it: one input that is rounded the other way can move them as far as all that
    are not rounded at all.

    Args:
        network: in evaluation mode, on the CPU.
        inputs: what it takes.
        through: makes the program of a module and of what that takes.

    Returns:
        The layer and how much, where more than one of 1000 values differ, or one by more than a
        step; None where they are the same.
    """
    named = {n: m for n, m in network.named_modules() if isinstance(m, QuantizedInputConv2d)}
    calls = record_calls(network, named, call_of(inputs))
    read = {name: tree_leaves(calls[name])[0].flatten() for name in named if calls[name]}
    if not read:
        return None
    roundings = Roundings([named[name] for name in read])
    number = min(_MOST_VALUES, max(len(each) for each in read.values()))
    # Layers that read fewer values read some of them again.
    places = [torch.arange(number) * len(each) // number for each in read.values()]
    values = torch.stack([x[i] for x, i in zip(read.values(), places, strict=True)], 1)  # [K, L]
    expected = output_of(roundings, call_of(values))
    found = tree_leaves(output_of(through(roundings, values), call_of(values)))[0]
    apart = (found.float() - expected.float()).abs() / roundings.steps().float()
    slack = roundings.slack(values.dtype)
    shares = (apart > slack).float().mean(0)
    bad = (shares > slack) | (apart > 1 + slack).any(0)
    if not bad.any():
        return None
    worst = int(torch.where(bad, shares, -1.0).argmax())
    return (
        f"{shares[worst]:.1%} of those of {list(read)[worst]} elsewhere, by up to "
        f"{apart[:, worst].max():.2g} steps"
    )
