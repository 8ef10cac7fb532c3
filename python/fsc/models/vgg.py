"""VGG networks with batch normalization for 32x32 images."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

STAGE_WIDTHS = (64, 128, 256, 512, 512)
CONVOLUTIONS_PER_STAGE = {13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


class VGG(nn.Module):
    """Stages of 3x3 convolutions with max-pooling between them; build it with `vgg`."""

    def __init__(self, convolutions: tuple[int, ...], num_classes: int, in_channels: int) -> None:
        """Make the network with random weights; `convolutions` counts those of each stage."""
        super().__init__()
        layers: list[nn.Module] = []
        widths = (in_channels, *STAGE_WIDTHS)
        for stage, (num_convolutions, (before, width)) in enumerate(
            zip(convolutions, pairwise(widths), strict=True)
        ):
            # The last stage keeps its 2x2 image: the average pooling takes it to one value.
            if stage > 0:
                layers.append(nn.MaxPool2d(2))
            for index in range(num_convolutions):
                layers += _convolution(before if index == 0 else width, width)
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(STAGE_WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to class scores [N, num_classes]."""
        x = self.features(x)  # [N, 512, H / 16, W / 16]
        return self.classifier(self.avgpool(x).flatten(1))


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    convolution = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(convolution.weight)
    return [convolution, nn.BatchNorm2d(out_channels), nn.ReLU()]


def vgg(depth: int, num_classes: int = 10, in_channels: int = 3) -> VGG:
    """Build a VGG network with batch normalization and one linear layer as its head.

    The convolutions are configurations B, D and E of Simonyan & Zisserman 2015, Table 1. The
    pooling after the last stage is an average over the remaining image, and a single linear layer
    replaces the three of the paper, as is usual for CIFAR. Convolutions are drawn from the Kaiming
    normal distribution with torch's global generator.

    Args:
        depth: 13, 16 or 19.
        num_classes: number of class scores.
        in_channels: channels of the images.

    Returns:
        A network from [N, in_channels, H, W], H and W at least 16 pixels, to [N, num_classes], in
        training mode.

    Raises:
        ValueError: depth is none of these.
    """
    if depth not in CONVOLUTIONS_PER_STAGE:
        raise ValueError(f"vgg: depth must be 13, 16 or 19, got {depth}")
    return VGG(CONVOLUTIONS_PER_STAGE[depth], num_classes, in_channels)
