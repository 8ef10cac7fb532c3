"""Quantized schemes: on how many bits each convolution's weights are written."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

from fsc.schemes.convolutions import convolution_of

_MAX_BITS = 8


@dataclass(frozen=True)
class QuantizedScheme:
    """The bits of a network's weights; shapes stay, every output channel has 2^bits values.

    Attributes:
        name: what reports call it.
        bits: name of each quantized convolution -> bits of its weights.
    """

    name: str
    bits: dict[str, int]


def quantized(model: nn.Module, bits: int, ignored: Collection[str] = ()) -> QuantizedScheme:
    """Quantize the weights of every convolution; biases and linear layers keep their precision.

    Args:
        model: the network.
        bits: of a weight, 1 to 8.
        ignored: names of convolutions that keep their precision.

    Raises:
        ValueError: bits outside 1 to 8, a name that is no convolution, or nothing to quantize.

    Example:
        >>> quantized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), 2)
        QuantizedScheme(name='w2a32', bits={'0': 2, '2': 2})
    """
    if not 1 <= bits <= _MAX_BITS:
        raise ValueError(f"quantized: bits must be in [1, {_MAX_BITS}], got {bits}")
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)]
    for name in ignored:
        if name not in names:
            raise ValueError(
                f"quantized: ignored must name convolutions of the model, got {name!r}"
            )
    found = {name: bits for name in names if name not in ignored}
    if not found:
        raise ValueError("quantized: model must contain a Conv2d that is not ignored, got none")
    return QuantizedScheme(f"w{bits}a32", found)


def check_quantized(scheme: QuantizedScheme, model: nn.Module) -> None:
    """Make sure that a scheme fits a network, before any work is done.

    Raises:
        ValueError: the scheme is empty, a layer does not exist or is no Conv2d, or its bits are
            no integer from 1 to 8.
    """
    if not scheme.bits:
        raise ValueError(f"scheme {scheme.name!r} quantizes no layer")
    for layer, bits in scheme.bits.items():
        convolution_of(model, layer, scheme.name)
        if type(bits) is not int or not 1 <= bits <= _MAX_BITS:
            raise ValueError(
                f"scheme {scheme.name!r}: layer {layer!r} must have 1 to {_MAX_BITS} bits, "
                f"got {bits!r}"
            )
