"""Small residual networks, whose blocks go."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGES = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A convolution around which its input goes, before, behind or without an activation."""

    def __init__(self, channels: int, style: str = "behind") -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.ReLU()
        self.style = style

    def forward(self, x: Tensor) -> Tensor:
        if self.style == "before":
            return x + self.conv(self.act(self.norm(x)))
        out = self.norm(self.conv(x))
        if self.style == "in place":
            out += x
            return self.act(out)
        if self.style == "functional":
            return F.relu(out + x)
        if self.style == "other function":
            return F.silu(out + x)
        if self.style == "scaled":
            return out + 0.5 * x
        return self.act(x + out) if self.style == "behind" else x + out


class Network(nn.Module):
    """A stem without an activation, blocks, and a head."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(*blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.blocks(self.stem(x))).flatten(1))


def residual_network(*styles: str) -> Network:
    """A network of such blocks with uneven BatchNorms, in evaluation mode."""
    torch.manual_seed(1)
    model = Network(*(Block(4, style) for style in styles)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.bias.data.uniform_(-0.3, 0.3)
    return model
