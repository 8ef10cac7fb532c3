"""The published schemes as numbers, by name; apart from `fsc.schemes`, so that torch is not needed.

What each of them is, and from which table, stands at `fsc.schemes.named`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from fsc import models

# Which channels a share of all is taken from, see `fsc.schemes.styles`.
Style = Literal["normal", "residual"]
# Share of the channels kept between the two convolutions of a residual block.
RESNET_KEPT = {"res-50": 0.5, "res-60": 0.4, "res-70": 0.3, "res-90": 0.1}
# Shares kept between the convolutions of a block of ResNet-34, and of the first two of stage four.
IMAGENET_KEPT = {
    "res-30": (0.7, 1.0), "res-50": (0.5, 1.0), "res-70": (0.3, 1.0), "res-70+": (0.3, 0.5),
}  # fmt: skip
# MiR, Table 2: style, and share of the channels kept in every layer that it prunes.
STYLES_KEPT = {
    "prune-a-cd": ("cd", 0.70), "prune-a-normal": ("normal", 0.85),
    "prune-a-residual": ("residual", 0.93),
    "prune-b-cd": ("cd", 0.50), "prune-b-normal": ("normal", 0.76),
    "prune-b-residual": ("residual", 0.85),
    "prune-c-cd": ("cd", 0.30), "prune-c-normal": ("normal", 0.68),
    "prune-c-residual": ("residual", 0.80),
}  # fmt: skip
_STYLE_WORDS = {
    "cd": "the channels inside the first blocks of stages one to three",
    "normal": "the channels inside residual blocks",
    "residual": "the channels inside residual blocks and between those of stages one to three",
}
# MiR, section 4.4: share of the channels kept inside the blocks of MobileNetV2.
MOBILENET_KEPT = {"prune-d": 0.75, "prune-e": 0.85}
# Shares removed of conv1_1, conv1_2 and the blocks two to five; the last convolution stays whole.
VGG_REMOVED = {
    "vgg-50": (0.5, 0.5, 0.5, 0.5, 0.5, 0.5),
    "vgg-a": (0.5, 0.0, 0.0, 0.0, 0.5, 0.5),
    "vgg-b": (0.6, 0.2, 0.2, 0.2, 0.6, 0.6),
    "vgg-c": (0.75, 0.75, 0.75, 0.75, 0.75, 0.6),
}
_VGG_WORDS = {
    "vgg-50": "50 % of the channels of every convolution but the last",
    "vgg-a": "50 % of the channels of the first convolution and of blocks four and five",
    "vgg-b": "60 % of the channels of the first convolution and of blocks four and five, "
    "20 % of the others",
    "vgg-c": "75 % of the channels of blocks one to four, 60 % of block five",
}
# Share of the single weights removed of every convolution.
SPARSE_REMOVED = {"sparse-50": 0.5, "sparse-70": 0.7, "sparse-90": 0.9, "sparse-95": 0.95}
# Bits of a weight and of an activation.
QUANTIZED_BITS = {"w2a3": (2, 3), "w2a4": (2, 4), "w2a32": (2, 32), "w4a32": (4, 32)}

OF_FAMILY: dict[str, Mapping[str, object]] = {
    "resnet": RESNET_KEPT,
    "vgg": VGG_REMOVED,
    "preactivation-resnet": {},
    "densenet": {},
    "imagenet-resnet": {**IMAGENET_KEPT, **STYLES_KEPT},
    "mobilenetv2": MOBILENET_KEPT,
}


def names() -> list[str]:
    """Return the names that `fsc.schemes.named` knows."""
    return [
        *dict.fromkeys([*RESNET_KEPT, *IMAGENET_KEPT]),
        *STYLES_KEPT,
        *MOBILENET_KEPT,
        *VGG_REMOVED,
        *SPARSE_REMOVED,
        *QUANTIZED_BITS,
    ]


def fits(name: str, model_name: str | None = None) -> bool:
    """Whether a scheme of `names()` is for a network of `fsc.models`; None: for any network."""
    if name in SPARSE_REMOVED or name in QUANTIZED_BITS:
        return True
    return model_name is not None and name in OF_FAMILY[models.family(model_name)]


def in_words(name: str, model_name: str | None) -> str:
    """Return what a published scheme does to a network, to follow its name; "" for any other.

    The network is one of `fsc.models`, or None for another one.

    Example:
        >>> in_words("sparse-90", "vgg16")
        'sets 90 % of the weights of every convolution to zero'
    """
    if name in SPARSE_REMOVED:
        return (
            f"sets {100 * SPARSE_REMOVED[name]:.0f} % of the weights of every convolution to zero"
        )
    if name in QUANTIZED_BITS:
        weight, activation = QUANTIZED_BITS[name]
        reads = "" if activation == 32 else f", and what convolutions read on {activation}"
        return f"writes the weights of convolutions on {weight} bits{reads}"
    if model_name is None:
        return ""
    family = models.family(model_name)
    if name not in OF_FAMILY[family]:
        return ""
    if family == "vgg":
        return f"removes {_VGG_WORDS[name]}"
    if name in STYLES_KEPT or name in MOBILENET_KEPT:
        return _style_in_words(name)
    first = "of the channels of the first convolution"
    if family == "resnet":
        return f"removes {100 - 100 * RESNET_KEPT[name]:.0f} % {first} of most residual blocks"
    kept, kept_last = IMAGENET_KEPT[name]
    last = f", and {100 - 100 * kept_last:.0f} % in two blocks of stage four"
    return (
        f"removes {100 - 100 * kept:.0f} % {first} of most residual blocks of stages one to three"
        + (last if kept_last < 1 else "")
    )


def _style_in_words(name: str) -> str:
    if name in MOBILENET_KEPT:
        share = 100 - 100 * MOBILENET_KEPT[name]
        return f"removes {share:.0f} % of the channels inside inverted residual blocks"
    style, kept = STYLES_KEPT[name]
    return f"removes {100 - 100 * kept:.0f} % of {_STYLE_WORDS[style]}, to multiples of eight"
