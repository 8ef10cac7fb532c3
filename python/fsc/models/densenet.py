"""Densely connected networks for small images: depth 3n+4, every layer reads all before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

GROWTH = 12
_STEM = 16


class DenseLayer(nn.Module):
    """BatchNorm, activation and a 3x3 convolution, whose channels are put behind the input's."""

    def __init__(self, in_channels: int) -> None:
        """Make the layer."""
        super().__init__()
        self.bn = nn.BatchNorm2d(in_channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(in_channels, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C + 12, H, W]."""
        return torch.cat((x, self.conv(self.relu(self.bn(x)))), 1)


class Transition(nn.Module):
    """BatchNorm, activation, a 1x1 convolution and average pooling between two blocks."""

    def __init__(self, channels: int) -> None:
        """Make the transition, which keeps the number of channels."""
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.pool = nn.AvgPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, C, H / 2, W / 2]."""
        return self.pool(self.conv(self.relu(self.bn(x))))


class DenseNet(nn.Module):
    """The network of Huang et al. 2017, without bottlenecks; build it with `densenet`."""

    def __init__(self, layers_per_block: int, num_classes: int, in_channels: int) -> None:
        """Make the network with random weights."""
        super().__init__()
        channels = _STEM
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        for block in range(3):
            if block > 0:
                blocks.append(Transition(channels))
            layers = [DenseLayer(channels + GROWTH * index) for index in range(layers_per_block)]
            blocks.append(nn.Sequential(*layers))
            channels += GROWTH * layers_per_block
        self.features = nn.Sequential(*blocks)
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to class scores [N, num_classes]."""
        x = self.features(self.conv1(x))  # [N, 16 + 36 n, H / 4, W / 4]
        return self.linear(self.avgpool(self.relu(self.bn(x))).flatten(1))


def densenet(depth: int, num_classes: int = 10, in_channels: int = 3) -> DenseNet:
    """Build a densely connected network of 3n+4 layers for images of about 8 to 64 pixels.

    Three blocks of n layers that add 12 channels each, without bottlenecks and without compression
    between blocks, behind a stem of 16 channels (Huang et al. 2017, "Densely Connected
    Convolutional Networks", section 4.2). Convolutions are drawn from the Kaiming normal
    distribution with torch's global generator.

    Args:
        depth: number of layers with weights, 3n+4 with n at least 1.
        num_classes: number of class scores.
        in_channels: channels of the images.

    Returns:
        A network from [N, in_channels, H, W] to [N, num_classes], in training mode.

    Raises:
        ValueError: depth is not 3n+4.
    """
    if depth < 7 or (depth - 4) % 3:
        raise ValueError(f"densenet: depth must be 3n+4 with n at least 1, got {depth}")
    return DenseNet((depth - 4) // 3, num_classes, in_channels)
