"""MobileNetV2 for large images, with the names of torchvision's, so that its checkpoints fit."""

from __future__ import annotations

from torch import Tensor, nn

# Sandler et al. 2018, Table 2: expansion, output channels, blocks, stride of the first of them.
STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
STEM_WIDTH = 32
FEATURES = 1280


class InvertedResidual(nn.Module):
    """1x1 convolution to more channels, 3x3 depthwise, 1x1 to few, around a shortcut.

    Sandler et al. 2018, section 3.3. Without expansion the first of the three is not there; where
    the shape changes, neither is the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        """Make the block; `stride` is the step of its depthwise convolution, in pixels."""
        super().__init__()
        hidden = in_channels * expansion
        first = [] if expansion == 1 else [_activated(in_channels, hidden, 1)]
        self.conv = nn.Sequential(
            *first,
            _activated(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.has_shortcut = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        out = self.conv(x)  # [N, out_channels, H / stride, W / stride]
        return x + out if self.has_shortcut else out


class MobileNetV2(nn.Module):
    """The network of Sandler et al. 2018, Table 2; build it with `mobilenetv2`."""

    def __init__(self, num_classes: int, in_channels: int) -> None:
        """Make the network with random weights."""
        super().__init__()
        layers: list[nn.Module] = [_activated(in_channels, STEM_WIDTH, 3, 2)]
        width = STEM_WIDTH
        for expansion, out_channels, count, stride in STAGES:
            for index in range(count):
                step = stride if index == 0 else 1
                layers.append(InvertedResidual(width, out_channels, step, expansion))
                width = out_channels
        layers.append(_activated(width, FEATURES, 1))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(FEATURES, num_classes))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to class scores [N, num_classes]."""
        x = self.features(x)  # [N, 1280, H / 32, W / 32]
        return self.classifier(self.avgpool(x).flatten(1))


def _activated(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


def mobilenetv2(num_classes: int = 1000, in_channels: int = 3) -> MobileNetV2:
    """Build MobileNetV2 of width 1.0 for images of about 224 pixels.

    Sandler et al. 2018, "MobileNetV2: Inverted Residuals and Linear Bottlenecks", Table 2.
    Convolutions are drawn from the Kaiming normal distribution with torch's global generator.

    Args:
        num_classes: number of class scores.
        in_channels: channels of the images.

    Returns:
        A network from [N, in_channels, H, W] to [N, num_classes], in training mode.
    """
    return MobileNetV2(num_classes, in_channels)
