"""Compress a network of your own with a handful of unlabelled images.

Run it with `python examples/own_network.py`; it needs no data.
"""

import torch
from torch import Tensor, nn

import fsc
from fsc import schemes


class Net(nn.Module):
    """A network that torch.fx can trace; docs/what_a_network_must_be_like.md has the rules."""

    def __init__(self) -> None:
        """Three convolutions and a head."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.conv3 = nn.Conv2d(32, 32, 3, padding=1)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images [N, 3, H, W] to scores [N, 10]."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = torch.relu(self.conv2(x))
        x = torch.relu(self.conv3(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def shrink() -> fsc.Result:
    """Removes half of the channels of two convolutions."""
    torch.manual_seed(0)
    teacher = Net().eval()  # load your pretrained weights here
    images = torch.randn(20, 3, 32, 32)  # and a few of your images, normalised as it expects
    scheme = schemes.structured(teacher, 0.5, images[:1])
    return fsc.compress(teacher, images, method=fsc.CrossDistillation(), scheme=scheme)


if __name__ == "__main__":
    report = shrink().report
    print(f"parameters {report.parameters_teacher} -> {report.parameters}")
    print(f"multiply-accumulates {report.flops_teacher} -> {report.flops}")
