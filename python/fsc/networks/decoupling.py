"""Convolutions as sums of depthwise and pointwise ones (Guo et al., BMVC 2018)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fsc.networks.placing import put

# An attribute of what takes the place of a convolution, so that copies and files know of it.
_MARK = "fsc_decoupled"


def decoupled(layer: nn.Conv2d, terms: int) -> nn.Sequential:
    r"""The depthwise convolution and the pointwise one that are nearest to a convolution.

    .. math:: W_{:, i} \approx \sum_{t=1}^{T} p_{i, t} \, d_{i, t}^\top

    with :math:`W_{:, i}` the [C_out, kH kW] slice of input channel i and :math:`p_{i, t}
    d_{i, t}^\top` the terms of its singular value decomposition in falling order (FSKD, Eq. 3). The
    :math:`d_{i, t}` are orthonormal; with T = kH kW the sum is exact.

    Args:
        layer: an ungrouped convolution; it is not changed.
        terms: T, filters of the depthwise convolution for each input channel.

    Returns:
        Of two layers, `depthwise` [C_in T, 1, kH, kW] without bias and `pointwise`
        [C_out, C_in T, 1, 1].

    Raises:
        ValueError: the convolution has groups, or T is below 1 or above kH kW.

    Example:
        >>> layer = nn.Conv2d(3, 8, 3, padding=1)
        >>> image = torch.randn(1, 3, 6, 6)
        >>> torch.allclose(decoupled(layer, 9)(image), layer(image), atol=1e-5)
        True
    """
    made = _split(layer, terms)
    slices = _slices(layer.weight)  # [C_in, C_out, kH kW]
    filters = _eigen(slices)[1][:, :, -terms:].flip(2)  # [C_in, kH kW, T]
    factors = slices @ filters  # [C_in, C_out, T]
    depthwise, pointwise = made.depthwise, made.pointwise
    assert isinstance(depthwise, nn.Conv2d) and isinstance(pointwise, nn.Conv2d)
    with torch.no_grad():
        depthwise.weight.copy_(filters.transpose(1, 2).reshape(depthwise.weight.shape))
        pointwise.weight.copy_(factors.transpose(0, 1).reshape(pointwise.weight.shape))
        if layer.bias is not None and pointwise.bias is not None:
            pointwise.bias.copy_(layer.bias)
    return made


def energy_lost(layer: nn.Conv2d, terms: int) -> float:
    """The share of a weight's energy that is lost with all but so many terms a channel."""
    energies = _eigen(_slices(layer.weight))[0].clamp(min=0)  # [C_in, kH kW], rising
    total = float(energies.sum())
    return float(energies[:, :-terms].sum()) / total if total else 0.0


def pays(layer: nn.Conv2d, terms: int) -> bool:
    """Whether the two layers take fewer multiply-accumulates than the one.

    T C_in (kH kW + C_out) against C_in C_out kH kW for each pixel of the output; the parameters but
    for the bias are as many.
    """
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    return terms * (taps + layer.out_channels) < layer.out_channels * taps


def decouple_layers(model: nn.Module, terms: Mapping[str, int]) -> None:
    """Put two layers in the place of each named convolution, in place.

    Args:
        model: the network.
        terms: name of each convolution -> filters of the depthwise one for each input channel.

    Raises:
        ValueError: a name is no ungrouped convolution, or a number does not go with its kernel.
    """
    for name, count in terms.items():
        put(model, name, decoupled(_convolution(model, name), count))


def split_layers(model: nn.Module, terms: Mapping[str, int]) -> None:
    """The same with weights that are still to be loaded; a layer that is two already stays.

    Raises:
        ValueError: as by `decouple_layers`.
    """
    split = decoupled_of(model)
    for name, count in terms.items():
        if split.get(name) != count:
            put(model, name, _split(_convolution(model, name), count))


def decoupled_of(model: nn.Module) -> dict[str, int]:
    """The convolutions that are two layers in a network: name -> terms for each input channel."""
    return {
        name: getattr(module, _MARK)
        for name, module in model.named_modules()
        if hasattr(module, _MARK)
    }


def ends_of(student: nn.Module) -> dict[str, str]:
    """Where a student gives what its teacher's convolutions gave.

    Returns:
        Name of each convolution of the teacher that was decoupled -> name of the pointwise one that
        ends it in the student.
    """
    return {name: f"{name}.pointwise" for name in decoupled_of(student)}


def _split(layer: nn.Conv2d, terms: int) -> nn.Sequential:
    """The two layers of a convolution, as they are made; its settings are the depthwise one's."""
    taps = layer.kernel_size[0] * layer.kernel_size[1]
    if layer.groups != 1:
        raise ValueError(f"layer must have one group to be decoupled, got {layer.groups}")
    if not 1 <= terms <= taps:
        raise ValueError(f"terms must be from 1 to {taps}, the taps of the kernel, got {terms}")
    weight, wide = layer.weight, layer.in_channels * terms
    depthwise = nn.Conv2d(
        layer.in_channels,
        wide,
        layer.kernel_size,  # type: ignore[arg-type]
        stride=layer.stride,  # type: ignore[arg-type]
        padding=layer.padding,  # type: ignore[arg-type]
        dilation=layer.dilation,  # type: ignore[arg-type]
        groups=layer.in_channels,
        bias=False,
        padding_mode=layer.padding_mode,
        device=weight.device,
        dtype=weight.dtype,
    )
    has_bias = layer.bias is not None
    pointwise = nn.Conv2d(
        wide, layer.out_channels, 1, bias=has_bias, device=weight.device, dtype=weight.dtype
    )
    made = nn.Sequential(OrderedDict(depthwise=depthwise, pointwise=pointwise))
    setattr(made, _MARK, terms)
    return made.requires_grad_(weight.requires_grad).train(layer.training)


def _convolution(model: nn.Module, name: str) -> nn.Conv2d:
    layer = dict(model.named_modules()).get(name)
    if type(layer) is not nn.Conv2d:
        found = "none" if layer is None else type(layer).__name__
        raise ValueError(f"layer {name!r} must be a Conv2d to be decoupled, got {found}")
    return layer


def _slices(weight: Tensor) -> Tensor:
    """A weight [C_out, C_in, kH, kW] as [C_in, C_out, kH kW] in float64."""
    return weight.detach().double().flatten(2).transpose(0, 1)


def _eigen(slices: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values [C_in, kH kW], rising, and right singular vectors as columns.

    Of the small Gram matrices: there are as many vectors as taps, however few filters.
    """
    values, vectors = torch.linalg.eigh(slices.transpose(1, 2) @ slices)
    return values, vectors
