"""The schemes of the papers, by name."""

from __future__ import annotations

import functools
import math

from torch import nn

from fsc import models
from fsc.scheme_tables import (
    IMAGENET_KEPT,
    MOBILENET_KEPT,
    OF_FAMILY,
    QUANTIZED_BITS,
    RESNET_KEPT,
    SPARSE_REMOVED,
    STYLES_KEPT,
    VGG_REMOVED,
    fits,
    names,
)
from fsc.schemes.published_styles import of_mobilenetv2, of_resnet34
from fsc.schemes.quantized import QuantizedScheme, quantized
from fsc.schemes.sparse import SparseScheme, sparse
from fsc.schemes.structured import Scheme
from fsc.wording import shown


def for_any(name: str, model: nn.Module) -> SparseScheme | QuantizedScheme:
    """Return a published scheme that fits any network, one for which `fits(name)` holds."""
    if name in SPARSE_REMOVED:
        return SparseScheme(name, sparse(model, SPARSE_REMOVED[name]).kept)
    bits, activation_bits = QUANTIZED_BITS[name]
    return quantized(model, bits, activation_bits=activation_bits)


def named(name: str, model_name: str) -> Scheme | SparseScheme | QuantizedScheme:
    """Return a published scheme for a network of `fsc.models`.

    "res-50", "res-60", "res-70", "res-90" (CD Table 11) prune the channels between the two
    convolutions of a residual block: of c channels int(r·c) + 1 stay, r = 0.5, 0.4, 0.3, 0.1.
    Sensitive blocks stay whole: the first blocks of stages two and three, the last block, and in
    ResNet-56 also the last but one of stage one, so that its convolutions 16, 20, 38 and 54 (from
    0, in order of execution) keep all their input channels, as in the code released with the paper.

    "res-30", "res-50", "res-70" of ResNet-34 (CD Table 12) keep int(r·c) channels there, in stages
    one to three; the first block of each stage stays whole. "res-70+" also halves those of the
    first two blocks of stage four. These choices give the parameters of Table 12; those that the
    released code names do not.

    "prune-a-cd", "prune-a-normal", "prune-a-residual" and those with b and c (MiR Table 2) keep one
    share of the channels of ResNet-34 in every layer that they prune, to multiples of eight.
    "normal" prunes inside all blocks, "cd" inside those that the code released with the CD paper
    prunes: the first two of stages one and two and the first four of stage three. "residual"
    prunes inside all blocks and the channels that run through stages one to three; those of stage
    four are the features that MiR compares. "prune-d" and "prune-e" (MiR section 4.4) remove 25 %
    and 15 % of the channels inside the blocks of MobileNetV2, where it expands them.

    "vgg-50" (CD Table 10) keeps half of the output channels of every convolution but the last.
    "vgg-a" and "vgg-b" are schemes A and B of FSKD (Li et al. 2018, section 4.1), which the CD
    paper takes over: A halves conv1_1 and the blocks four and five, B removes 60 % there and 20 %
    elsewhere. "vgg-c" removes 75 % of blocks one to four and 60 % of block five, as the CD paper
    says. The last convolution stays whole in all of them.

    "sparse-50", "sparse-70", "sparse-90", "sparse-95" remove that share of the weights of every
    convolution, whatever the network (CD, unstructured pruning).

    "w2a32" and "w4a32" write the weights of every convolution on 2 or 4 bits, whatever the network
    (CD Table 18); "w2a3" and "w2a4" also what they read on 3 or 4 bits (CD Table 17).

    Args:
        name: one of `names()`; counts of single weights are those for images of three channels.
        model_name: one of `fsc.models.names()`, of the family that the scheme is for.

    Raises:
        ValueError: an unknown name, or a scheme of another family.

    Example:
        >>> named("res-50", "resnet56").kept["layer1.0.conv1"]
        9
    """
    if name not in names():
        raise ValueError(f"named: name must be one of {', '.join(names())}, got {shown(name)}")
    if fits(name):
        return for_any(name, _skeleton(model_name))
    family = models.family(model_name)
    fitting = [known for known, table in OF_FAMILY.items() if name in table]
    if family not in fitting:
        raise ValueError(
            f"named: scheme {name!r} is for {' and '.join(fitting)} networks, "
            f"got {shown(model_name)}"
        )
    convolutions = _convolutions(model_name)
    if family == "vgg":
        return Scheme(name, _vgg(convolutions, VGG_REMOVED[name]))
    if family == "mobilenetv2":
        return Scheme(name, of_mobilenetv2(convolutions, MOBILENET_KEPT[name]))
    if name in STYLES_KEPT:
        return Scheme(name, of_resnet34(convolutions, *STYLES_KEPT[name]))
    if family == "imagenet-resnet":
        return Scheme(name, _imagenet_residual(convolutions, *IMAGENET_KEPT[name]))
    return Scheme(name, _residual(convolutions, RESNET_KEPT[name]))


@functools.cache
def _skeleton(model_name: str) -> nn.Module:
    """The network to read names and shapes of; all schemes share it."""
    return models.skeleton(model_name)


def _convolutions(model_name: str) -> dict[str, int]:
    return {
        name: module.out_channels
        for name, module in _skeleton(model_name).named_modules()
        if isinstance(module, nn.Conv2d)
    }


def _vgg(convolutions: dict[str, int], removed: tuple[float, ...]) -> dict[str, int]:
    names = list(convolutions)
    # Two blocks of two convolutions, then three of as many as the depth gives.
    depth = (len(names) - 4) // 3
    shares = [removed[0], removed[1], removed[2], removed[2]]
    shares += [share for share in removed[3:] for _ in range(depth)]
    return {
        name: math.floor(convolutions[name] * (1 - share) + 1e-9)
        for name, share in list(zip(names, shares, strict=True))[:-1]
        if share
    }


def _residual(convolutions: dict[str, int], ratio: float) -> dict[str, int]:
    middle = [layer for layer in convolutions if layer.endswith(".conv1")]
    blocks_per_stage = len(middle) // 3
    skipped = {blocks_per_stage, 2 * blocks_per_stage, len(middle) - 1}
    if blocks_per_stage == 9:
        skipped.add(blocks_per_stage - 2)
    return {
        layer: int(ratio * convolutions[layer]) + 1
        for block, layer in enumerate(middle)
        if block not in skipped
    }


def _imagenet_residual(
    convolutions: dict[str, int], kept: float, kept_last: float
) -> dict[str, int]:
    scheme = {}
    for layer, channels in convolutions.items():
        if not layer.endswith(".conv1"):
            continue
        stage, block = layer.split(".")[:2]
        if stage != "layer4" and block != "0":
            scheme[layer] = math.floor(channels * kept + 1e-9)
        if stage == "layer4" and block != "2" and kept_last < 1:
            scheme[layer] = math.floor(channels * kept_last + 1e-9)
    return scheme
