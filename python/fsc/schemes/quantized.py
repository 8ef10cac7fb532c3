"""Quantized schemes: on how many bits each convolution's weights are written."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from torch import nn

from fsc.arguments import check_dict, check_text, python_integer
from fsc.networks.operations import ORDINARY
from fsc.networks.quantized_inputs import MAX_BITS
from fsc.networks.wrappers import unwrap
from fsc.schemes.convolutions import as_ignored, convolution_of
from fsc.wording import shown

FULL_PRECISION = 32


@dataclass(frozen=True)
class QuantizedScheme:
    """The bits of a network's weights; shapes stay, every output channel has 2^bits values.

    Attributes:
        name: what reports call it.
        bits: name of each quantized convolution -> bits of its weights.
        activation_bits: of what these convolutions read, 1 to 8; 32 leaves it as it is. The images
            are never quantized, nor are inputs with negative values.
    """

    name: str
    bits: dict[str, int]
    activation_bits: int = FULL_PRECISION

    def __post_init__(self) -> None:
        """Refuses what names no layers; whether a network has them is asked with the network."""
        check_text("name", self.name)
        check_dict("bits", self.bits)
        own = {layer: python_integer(number) for layer, number in self.bits.items()}
        object.__setattr__(self, "bits", own)
        object.__setattr__(self, "activation_bits", python_integer(self.activation_bits))


def quantized(
    model: nn.Module,
    bits: int | Mapping[str, int],
    ignored: Collection[str] = (),
    activation_bits: int = FULL_PRECISION,
) -> QuantizedScheme:
    """Quantize the weights of every convolution; biases and linear layers keep their precision.

    Args:
        model: the network.
        bits: of a weight, 1 to 8, or name of each convolution to quantize -> its bits.
        ignored: names of convolutions that keep their precision.
        activation_bits: of what the convolutions read, 1 to 8; 32 leaves it as it is. Only a Conv2d
            can read few values: the others keep their precision where this is not 32.

    Raises:
        ValueError: bits outside 1 to 8, activation_bits neither there nor 32, a name that is no
            convolution, or nothing to quantize.

    Example:
        >>> quantized(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)), 2)
        QuantizedScheme(name='w2a32', bits={'0': 2, '2': 2}, activation_bits=32)
    """
    activation_bits = python_integer(activation_bits)
    if not _is_activation_bits(activation_bits):
        raise ValueError(
            f"quantized: activation_bits must be in [1, {MAX_BITS}] or {FULL_PRECISION}, "
            f"got {activation_bits}"
        )
    model = unwrap(model)
    ignored = as_ignored("quantized", ignored, model)
    if not isinstance(bits, Mapping):
        kinds = ORDINARY if activation_bits == FULL_PRECISION else nn.Conv2d
        names = [name for name, module in model.named_modules() if isinstance(module, kinds)]
        bits = dict.fromkeys((name for name in names if name not in ignored), bits)
    found = {name: python_integer(count) for name, count in bits.items()}
    for name, count in found.items():
        if name in ignored:
            raise ValueError(
                f"quantized: bits must name no layer that is ignored, got {shown(name)}"
            )
        convolution_of(model, name, "quantized")
        if type(count) is not int or not 1 <= count <= MAX_BITS:
            raise ValueError(f"quantized: bits must be in [1, {MAX_BITS}], got {count} for {name}")
    if not found:
        kind = "convolution" if activation_bits == FULL_PRECISION else "Conv2d"
        raise ValueError(
            f"quantized: model must contain a {kind} that is not ignored, got none, with "
            f"activation_bits {activation_bits}"
        )
    widest = max(found.values())
    return QuantizedScheme(f"w{widest}a{activation_bits}", found, activation_bits)


def check_quantized(scheme: QuantizedScheme, model: nn.Module) -> None:
    """Make sure that a scheme fits a network, before any work is done.

    Raises:
        ValueError: the scheme is empty, a layer does not exist or is no convolution, or bits are no
            integer from 1 to 8.
    """
    if not scheme.bits:
        raise ValueError(f"scheme {scheme.name!r} quantizes no layer")
    if not _is_activation_bits(scheme.activation_bits):
        raise ValueError(
            f"scheme {scheme.name!r}: activation_bits must be 1 to {MAX_BITS} or "
            f"{FULL_PRECISION}, got {shown(scheme.activation_bits)}"
        )
    for layer, bits in scheme.bits.items():
        module = convolution_of(model, layer, scheme.name)
        if type(bits) is not int or not 1 <= bits <= MAX_BITS:
            raise ValueError(
                f"scheme {scheme.name!r}: layer {layer!r} must have 1 to {MAX_BITS} bits, "
                f"got {shown(bits)}"
            )
        if scheme.activation_bits != FULL_PRECISION and not isinstance(module, nn.Conv2d):
            raise ValueError(
                f"scheme {scheme.name!r}: activation_bits must be {FULL_PRECISION} where a layer "
                f"is no Conv2d, got {scheme.activation_bits} with {layer!r} "
                f"({type(module).__name__})"
            )


def _is_activation_bits(bits: object) -> bool:
    return type(bits) is int and (1 <= bits <= MAX_BITS or bits == FULL_PRECISION)
