"""The schemes of MiR (Wang et al. 2022): Figure 1, Table 2 and section 4.4."""

from __future__ import annotations

import re

# Widths are multiples of eight: not said in the paper, but the figures of Table 2 are those.
UNIT = 8
# Output channels of the stages, by the layer that is named for all that are added to it; those of
# the last stage are the features that MiR compares and stay whole.
_STREAMS = ("conv1", "layer2.0.conv2", "layer3.0.conv2")
# What the code released with the CD paper prunes of ResNet-34.
_CD_BLOCKS = re.compile(r"layer1\.[01]|layer2\.[01]|layer3\.[0-3]")


def of_resnet34(convolutions: dict[str, int], style: str, kept: float) -> dict[str, int]:
    """Output channels that stay of ResNet-34.

    Args:
        convolutions: name -> output channels.
        style: "cd", "normal" or "residual".
        kept: share of the channels that stay.
    """
    inside = [layer for layer in convolutions if layer.endswith(".conv1")]
    if style == "cd":
        inside = [layer for layer in inside if _CD_BLOCKS.match(layer)]
    layers = [*inside, *(_STREAMS if style == "residual" else ())]
    return {layer: round(convolutions[layer] * kept / UNIT) * UNIT for layer in layers}


def of_mobilenetv2(convolutions: dict[str, int], kept: float) -> dict[str, int]:
    """Output channels that stay inside the blocks of MobileNetV2: of the 1x1 in front of each."""
    return {
        layer: round(channels * kept)
        for layer, channels in convolutions.items()
        # Without an expansion the first convolution of a block is depthwise, and no 1x1 follows it.
        if layer.endswith(".conv.0.0") and not layer.startswith("features.1.")
    }
