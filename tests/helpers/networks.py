"""Small networks that the tests of `fsc` share."""

import torch
from torch import Tensor, nn


class Chain(nn.Module):
    """Four convolutions: with BN, with a bias, with neither, and a last one before the head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 10, 3, padding=1, stride=2)
        self.conv3 = nn.Conv2d(10, 12, 1, bias=False)
        self.conv4 = nn.Conv2d(12, 6, 3, padding=1)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.conv2(x))
        x = self.relu(self.conv3(x))
        x = self.relu(self.conv4(x))
        return self.head(self.pool(x).flatten(1))


def chain(dtype: torch.dtype = torch.float32) -> Chain:
    """A `Chain` in eval mode with uneven BatchNorm statistics."""
    model = Chain().to(dtype).eval()
    with torch.no_grad():
        model.bn1.running_mean.uniform_(-0.3, 0.3)
        model.bn1.running_var.uniform_(0.15, 0.7)
        model.bn1.weight.uniform_(0.5, 1.5)
        model.bn1.bias.uniform_(-0.3, 0.3)
    return model


def small() -> nn.Sequential:
    """A dense, a depthwise and a grouped convolution, one BatchNorm and a head."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 6, 1, groups=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 5),
    )


def widths(model: nn.Module) -> dict[str, int]:
    """How many channels each convolution makes."""
    return {n: m.out_channels for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
