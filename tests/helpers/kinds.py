"""A network of every kind of layer that mixes linearly, and what stands between them."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EveryKind(nn.Module):
    """Depthwise, grouped, transposed, volumes, rows, tokens, and a BatchNorm before a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.wide = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.grouped = nn.Conv2d(16, 12, 3, padding=1, groups=4, padding_mode="reflect")
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.up = nn.ConvTranspose2d(12, 6, 2, stride=2, groups=2)
        self.volume = nn.Conv3d(6, 5, 3, padding=1)
        self.norm = nn.BatchNorm3d(5)
        self.rows = nn.Conv1d(5, 6, 4, stride=4)
        self.tokens = nn.Linear(6, 7)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.grouped(F.relu(self.wide(F.relu(self.first(x))))))
        x = F.relu(self.up(F.relu(self.depthwise(x))))  # [N, 6, 16, 16]
        x = self.norm(F.relu(self.volume(x.unflatten(2, (4, 4)))))  # [N, 5, 4, 4, 16]
        x = F.relu(self.rows(x.flatten(2)))  # [N, 6, 64]
        return self.head(F.relu(self.tokens(x.transpose(1, 2))).mean(1))


def every_kind(dtype: torch.dtype = torch.float32) -> nn.Module:
    """The network in evaluation mode, drawn alike every time."""
    torch.manual_seed(0)
    return EveryKind().to(dtype).eval()


def disturbed(network: nn.Module) -> nn.Module:
    """A copy of `every_kind` with noise on the weights of the layers that mix channels."""
    student = copy.deepcopy(network)
    with torch.no_grad():
        for name in ("first", "grouped", "up", "volume", "rows", "tokens"):
            weight = student.get_submodule(name).weight
            weight.add_(0.1 * weight.std() * torch.randn_like(weight))
    return student
