"""Small networks whose channels go together in all the ways that networks have."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def convolution(inputs: int, outputs: int, size: int = 3, **options: object) -> nn.Sequential:
    """Convolution, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False, **options),  # type: ignore
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


def head(channels: int) -> nn.Sequential:
    """Pooling and a Linear."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 5))


class Residual(nn.Module):
    """A stream over two blocks, the second with a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, 8)
        self.first = nn.Sequential(convolution(8, 12), nn.Conv2d(12, 8, 3, padding=1))
        self.second = nn.Sequential(convolution(8, 16, stride=2), nn.Conv2d(16, 10, 3, padding=1))
        self.shortcut = nn.Conv2d(8, 10, 1, stride=2)
        self.head = head(10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(x + self.first(x))
        return self.head(F.relu(self.shortcut(x) + self.second(x)))


class Padded(nn.Module):
    """A stream that is widened with zeros, as in the residual networks for CIFAR."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = convolution(3, 8), nn.Conv2d(8, 12, 3, padding=1)
        self.last, self.head = nn.Conv2d(12, 6, 3, padding=1), head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = F.relu(F.pad(x, (0, 0, 0, 0, 2, 2)) + self.wide(x))
        return self.head(F.relu(self.last(x)))


class Joined(nn.Module):
    """A concatenation of concatenations, each behind its own BatchNorm, and a split of the last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, 4, 3, padding=1))
            for c in (8, 12)
        )
        self.up, self.down = nn.Conv2d(16, 12, 1), nn.Conv2d(6, 6, 1)
        self.head = head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        first, second = self.up(x).chunk(2, 1)
        return self.head(self.down(F.gelu(first) * second))


class Gated(nn.Module):
    """A gate of channels, a mask of pixels, a bare scale and a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.body = convolution(3, 8)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.squeeze, self.excite = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 16, 1)
        self.mask = nn.Conv2d(16, 1, 1)
        self.scale = nn.Parameter(torch.rand(16, 1, 1) + 0.5)
        self.last, self.head = nn.Conv2d(16, 6, 1), head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.body(x)) * self.scale
        gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
        return self.head(self.last(x * gate * torch.sigmoid(self.mask(x))))


class Shuffled(nn.Module):
    """Grouped convolutions with a channel shuffle between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, 8)
        self.first = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.second = nn.Conv2d(12, 8, 3, padding=1, groups=2)
        self.head = head(8)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(self.stem(x)))
        count, channels, height, width = x.shape
        x = x.view(count, 2, channels // 2, height, width).transpose(1, 2).flatten(1, 2)
        return self.head(F.relu(self.second(x)))


class Reshaped(nn.Module):
    """A pixel shuffle, a transposed convolution, and a view whose sizes stand in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.wide = convolution(3, 8), nn.Conv2d(8, 16, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2)
        self.last, self.hidden = nn.Conv2d(6, 8, 3), nn.Linear(8, 32)
        self.out = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(self.stem(x), (0, 1, 0, 1))[:, :, :-1, :-1]
        x = self.up(F.relu(F.pixel_shuffle(self.wide(x), 2)))
        x = F.relu(self.hidden(self.last(x).mean((2, 3))))
        return self.out(x.view(x.size(0), 8, 2, 2))


class Normed(nn.Module):
    """Normalizations and slopes that have one parameter a channel, and a flattened map."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1),
            nn.GroupNorm(4, 12),
            nn.PReLU(12),
            nn.Conv2d(12, 8, 3, padding=1),
            nn.InstanceNorm2d(8, affine=True),
            nn.ReLU(),
            nn.Conv2d(8, 6, 1),
            nn.PReLU(),
            nn.AdaptiveAvgPool2d(2),
        )
        self.hidden, self.norm, self.last = nn.Linear(24, 7), nn.BatchNorm1d(7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.norm(self.hidden(self.body(x).flatten(1)))))


class Twice(nn.Module):
    """A convolution that is called twice, and a softmax that mixes channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.shared = convolution(3, 8), nn.Conv2d(8, 8, 3, padding=1)
        self.mixed, self.last, self.head = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 4, 1), head(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shared(F.relu(self.shared(self.stem(x))))
        return self.head(F.relu(self.last(self.mixed(x).softmax(1))))


class ChannelsLast(nn.Module):
    """Normalizations over all channels: of channels last, without weights, and of one group."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm, self.widen, self.narrow = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.plain_norm = nn.LayerNorm(12, elementwise_affine=False)
        self.last, self.one_group = nn.Conv2d(8, 6, 1), nn.GroupNorm(1, 6)
        self.head = head(6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.widen(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        x = x + self.narrow(F.gelu(self.plain_norm(y))).permute(0, 3, 1, 2)
        return self.head(F.relu(self.one_group(self.last(x))))


class Counted(nn.Module):
    """A block whose numbers of channels are written into its forward."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = convolution(3, 12)
        self.small, self.large = (nn.Conv2d(c, 6, 3, padding=1) for c in (4, 8))
        self.tail, self.unused = nn.Conv2d(12, 8, 1), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        small, large = torch.split(self.stem(x), [4, 8], dim=1)
        small, large = self.small(small), self.large(large)
        both = torch.cat([small[:, 4:], large, small[:, :4]], 1)
        x = self.tail(F.relu(both))
        x = x.view(-1, 2, 4, x.shape[2], x.shape[3]).transpose(1, 2).reshape(x.shape)
        return torch.cat([x.narrow(1, 0, 3), x[:, 3:]], 1)


class Sized(nn.Module):
    """Such a block inside a network."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.head = Counted(), head(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x))


NETWORKS = (Residual, Padded, Joined, Gated, Shuffled, Reshaped, Normed, Twice, ChannelsLast, Sized)


def branching(kind: type[nn.Module]) -> nn.Module:
    """One of `NETWORKS` in evaluation mode, with uneven BatchNorm statistics."""
    torch.manual_seed(0)
    model = kind().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return model
