"""Pre-activation residual networks of bottlenecks for small images: depth 9n+2."""

from __future__ import annotations

from torch import Tensor, nn

STAGE_WIDTHS = (16, 32, 64)
EXPANSION = 4


class PreactivationBottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution, each behind its BatchNorm, added to the input.

    Nothing stands behind the addition. Where the shape changes, a 1x1 convolution stands in the
    shortcut.
    """

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        """Make the block; `width` counts the channels inside, `stride` is the 3x3 one's."""
        super().__init__()
        out_channels = EXPANSION * width
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width)
        self.relu3 = nn.ReLU()
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, 4 width, H / stride, W / stride]."""
        out = self.conv1(self.relu1(self.bn1(x)))  # [N, width, H, W]
        out = self.conv2(self.relu2(self.bn2(out)))  # [N, width, H / stride, W / stride]
        out = self.conv3(self.relu3(self.bn3(out)))  # [N, 4 width, H / stride, W / stride]
        return out + (x if self.downsample is None else self.downsample(x))


class PreactivationResNet(nn.Module):
    """The residual network of He et al. 2016; build it with `preactivation_resnet`."""

    def __init__(self, blocks_per_stage: int, num_classes: int, in_channels: int) -> None:
        """Make the network with random weights."""
        super().__init__()
        channels = STAGE_WIDTHS[0]
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        stages = []
        for stage, width in enumerate(STAGE_WIDTHS):
            blocks = []
            for index in range(blocks_per_stage):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(PreactivationBottleneck(channels, width, stride))
                channels = EXPANSION * width
            stages.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3 = stages
        self.bn = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to class scores [N, num_classes]."""
        x = self.conv1(x)  # [N, 16, H, W]
        x = self.layer1(x)  # [N, 64, H, W]
        x = self.layer2(x)  # [N, 128, H / 2, W / 2]
        x = self.relu(self.bn(self.layer3(x)))  # [N, 256, H / 4, W / 4]
        return self.linear(self.avgpool(x).flatten(1))


def preactivation_resnet(
    depth: int, num_classes: int = 10, in_channels: int = 3
) -> PreactivationResNet:
    """Build a pre-activation residual network of 9n+2 layers for images of about 8 to 64 pixels.

    He et al. 2016, "Identity Mappings in Deep Residual Networks", ResNet-164; stages have 64, 128
    and 256 channels, bottlenecks a quarter of them, and the second and the third halve the image.
    Shortcuts that change the shape read the block's input as it is, as in the networks of Liu et
    al. 2017, "Learning Efficient Convolutional Networks through Network Slimming". Convolutions are
    drawn from the Kaiming normal distribution with torch's global generator.

    Args:
        depth: number of layers with weights, those in shortcuts not counted, 9n+2 with n at least
            1.
        num_classes: number of class scores.
        in_channels: channels of the images.

    Returns:
        A network from [N, in_channels, H, W] to [N, num_classes], in training mode.

    Raises:
        ValueError: depth is not 9n+2.
    """
    if depth < 11 or (depth - 2) % 9:
        raise ValueError(f"preactivation_resnet: depth must be 9n+2, n at least 1, got {depth}")
    return PreactivationResNet((depth - 2) // 9, num_classes, in_channels)
