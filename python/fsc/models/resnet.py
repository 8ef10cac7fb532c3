"""Residual networks for small images: depth 6n+2, basic blocks, parameter-free shortcuts."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

STAGE_WIDTHS = (16, 32, 64)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch normalization around a shortcut without parameters.

    Where the shape changes the shortcut subsamples the image and pads the new channels with zeros,
    half of them on each side (option A of He et al. 2016, section 4.2).
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Make the block; `stride` is the step of its first convolution, in pixels."""
        super().__init__()
        self.stride = stride
        self.padded_channels = out_channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        out = self.relu1(self.bn1(self.conv1(x)))  # [N, out_channels, H / stride, W / stride]
        out = self.bn2(self.conv2(out))  # [N, out_channels, H / stride, W / stride]
        return self.relu2(out + self._shortcut(x))

    def _shortcut(self, x: Tensor) -> Tensor:
        if self.stride == 1 and self.padded_channels == 0:
            return x
        before = self.padded_channels // 2
        after = self.padded_channels - before
        x = x[:, :, :: self.stride, :: self.stride]  # [N, in_channels, H / stride, W / stride]
        return F.pad(x, (0, 0, 0, 0, before, after))


class ResNet(nn.Module):
    """The CIFAR residual network of He et al. 2016, section 4.2; build it with `resnet`."""

    def __init__(self, blocks_per_stage: int, num_classes: int, in_channels: int) -> None:
        """Make the network with random weights."""
        super().__init__()
        width = STAGE_WIDTHS[0]
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.layer1 = _stage(width, STAGE_WIDTHS[0], blocks_per_stage, stride=1)
        self.layer2 = _stage(STAGE_WIDTHS[0], STAGE_WIDTHS[1], blocks_per_stage, stride=2)
        self.layer3 = _stage(STAGE_WIDTHS[1], STAGE_WIDTHS[2], blocks_per_stage, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(STAGE_WIDTHS[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to class scores [N, num_classes]."""
        x = self.relu(self.bn1(self.conv1(x)))  # [N, 16, H, W]
        x = self.layer1(x)  # [N, 16, H, W]
        x = self.layer2(x)  # [N, 32, H / 2, W / 2]
        x = self.layer3(x)  # [N, 64, H / 4, W / 4]
        return self.linear(self.avgpool(x).flatten(1))


def _stage(in_channels: int, out_channels: int, num_blocks: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride)
    rest = (BasicBlock(out_channels, out_channels, 1) for _ in range(num_blocks - 1))
    return nn.Sequential(first, *rest)


def resnet(depth: int, num_classes: int = 10, in_channels: int = 3) -> ResNet:
    """Build a residual network of 6n+2 layers for images of about 8 to 64 pixels.

    The stem and the three stages have 16, 16, 32 and 64 channels; stages two and three halve the
    image (He et al. 2016, "Deep Residual Learning for Image Recognition", section 4.2). Weights
    are drawn from the Kaiming normal distribution with torch's global generator.

    Args:
        depth: number of layers with weights, 6n+2 with n at least 1.
        num_classes: number of class scores.
        in_channels: channels of the images.

    Returns:
        A network from [N, in_channels, H, W] to [N, num_classes], in training mode.

    Raises:
        ValueError: depth is not 6n+2.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"resnet: depth must be 6n+2 with n at least 1, got {depth}")
    return ResNet((depth - 2) // 6, num_classes, in_channels)
