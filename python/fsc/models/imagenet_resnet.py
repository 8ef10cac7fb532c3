"""ResNet-34 for large images, with the names of torchvision's, so that its checkpoints fit."""

from __future__ import annotations

from torch import Tensor, nn

STAGE_WIDTHS = (64, 128, 256, 512)
BLOCKS_PER_STAGE = {34: (3, 4, 6, 3)}


class ImageNetBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; where the shape changes, a 1x1 convolution in it.

    Option B of He et al. 2016, section 3.3.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Make the block; `stride` is the step of its first convolution, in pixels."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU()
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        out = self.relu1(self.bn1(self.conv1(x)))  # [N, out_channels, H / stride, W / stride]
        out = self.bn2(self.conv2(out))  # [N, out_channels, H / stride, W / stride]
        return self.relu2(out + (x if self.downsample is None else self.downsample(x)))


class ImageNetResNet(nn.Module):
    """The residual network of He et al. 2016, Table 1; build it with `imagenet_resnet`."""

    def __init__(self, blocks: tuple[int, ...], num_classes: int, in_channels: int) -> None:
        """Make the network with random weights; `blocks` counts those of each stage."""
        super().__init__()
        width = STAGE_WIDTHS[0]
        self.conv1 = nn.Conv2d(in_channels, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages = []
        for number, count in enumerate(blocks):
            out_channels, stride = STAGE_WIDTHS[number], 1 if number == 0 else 2
            first = ImageNetBlock(width, out_channels, stride)
            rest = (ImageNetBlock(out_channels, out_channels, 1) for _ in range(count - 1))
            stages.append(nn.Sequential(first, *rest))
            width = out_channels
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map images [N, in_channels, H, W] to class scores [N, num_classes]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))  # [N, 64, H / 4, W / 4]
        x = self.layer1(x)  # [N, 64, H / 4, W / 4]
        x = self.layer2(x)  # [N, 128, H / 8, W / 8]
        x = self.layer3(x)  # [N, 256, H / 16, W / 16]
        x = self.layer4(x)  # [N, 512, H / 32, W / 32]
        return self.fc(self.avgpool(x).flatten(1))


def imagenet_resnet(depth: int, num_classes: int = 1000, in_channels: int = 3) -> ImageNetResNet:
    """Build ResNet-34 for images of about 224 pixels.

    He et al. 2016, "Deep Residual Learning for Image Recognition", Table 1. Weights are drawn from
    the Kaiming normal distribution with torch's global generator.

    Args:
        depth: 34.
        num_classes: number of class scores.
        in_channels: channels of the images.

    Returns:
        A network from [N, in_channels, H, W] to [N, num_classes], in training mode.

    Raises:
        ValueError: depth is not 34.
    """
    if depth not in BLOCKS_PER_STAGE:
        raise ValueError(f"imagenet_resnet: depth must be 34, got {depth}")
    return ImageNetResNet(BLOCKS_PER_STAGE[depth], num_classes, in_channels)
