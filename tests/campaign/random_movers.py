"""Blocks of random networks that move channels about, or have weights of their own kind.

Each has `kill`, as those of `random_blocks.py`.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from random_blocks import Plain, even, half, normalisation, silence, silence_norm
from torch import Tensor, nn


class Depthwise(nn.Module):
    """A filter or two for every channel, and a normalisation."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.times = draw.choice((1, 1, 2))
        self.out = self.times * channels
        bias, stride = draw.random() < 0.5, draw.choice((1, 1, 2))
        self.conv = nn.Conv2d(channels, self.out, 3, stride, padding=1, groups=channels, bias=bias)
        self.norm = normalisation(self.out, draw)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))

    def kill(self, dead: Tensor) -> Tensor:
        chosen = dead.repeat_interleave(self.times)
        silence(self.conv, torch.zeros(0), chosen)
        silence_norm(self.norm, chosen)
        return chosen


class Shuffled(nn.Module):
    """A grouped convolution whose channels are shuffled, between two that mix all of them."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.draw, self.groups = draw, draw.choice((2, 2, 4))
        width, wide = (self.groups * 2 * draw.randint(1, 3) for _ in range(2))
        self.first = Plain(channels, draw, width)
        self.grouped = nn.Conv2d(width, wide, 3, padding=1, groups=self.groups)
        self.last = Plain(wide, draw)
        self.out = self.last.out

    def forward(self, x: Tensor) -> Tensor:
        x = self.grouped(self.first(x))
        count, channels, height, width = x.shape
        x = x.view(count, self.groups, channels // self.groups, height, width)
        return self.last(F.relu(x.transpose(1, 2).reshape(count, channels, height, width)))

    def kill(self, dead: Tensor) -> Tensor:
        # All groups lose the same channels of theirs, as they must stay equally wide.
        own = half(self.grouped.in_channels // self.groups, self.draw)
        inside = half(self.grouped.out_channels // self.groups, self.draw)
        self.first.kill(dead, own.repeat(self.groups))
        silence(self.grouped, own, inside.repeat(self.groups))
        return self.last.kill(inside.repeat_interleave(self.groups))


class Scaled(nn.Module):
    """A scale and a shift of every channel as bare parameters."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.out = channels
        self.scale = nn.Parameter(torch.rand(channels, 1, 1) + 0.5)
        self.shift = nn.Parameter(torch.randn(channels, 1, 1) / 5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift

    def kill(self, dead: Tensor) -> Tensor:
        with torch.no_grad():
            self.scale[dead], self.shift[dead] = 0, 0
        return dead


class Larger(nn.Module):
    """More pixels: from channels, by a transposed convolution, or in between."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.draw, self.how = draw, draw.choice(("shuffle", "transposed", "between"))
        self.out = even(draw, 8)
        if self.how == "transposed":
            self.conv: nn.Module = nn.ConvTranspose2d(channels, self.out, 2, stride=2)
        else:
            wide = 4 * self.out if self.how == "shuffle" else self.out
            self.conv = nn.Conv2d(channels, wide, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        if self.how == "between":
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        x = self.conv(x)
        return F.relu(F.pixel_shuffle(x, 2) if self.how == "shuffle" else x)

    def kill(self, dead: Tensor) -> Tensor:
        chosen = half(self.out, self.draw)
        silence(self.conv, dead, chosen.repeat_interleave(4) if self.how == "shuffle" else chosen)
        return chosen


class Pool(nn.Module):
    """Fewer pixels."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.out, self.pool = channels, draw.choice((F.max_pool2d, F.avg_pool2d))

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x, 2) if min(x.shape[2:]) >= 4 else x

    def kill(self, dead: Tensor) -> Tensor:
        return dead


class Twice(nn.Module):
    """A convolution that is called twice."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.out, self.conv = channels, nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(F.relu(self.conv(x))))

    def kill(self, dead: Tensor) -> Tensor:
        silence(self.conv, dead, dead)
        return dead


class Picked(nn.Module):
    """Some of the channels, in another order."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        how = draw.choice(("flip", "roll", "some"))
        order = torch.arange(channels)
        if how == "some" and channels > 4:
            order = order[draw.randint(0, 1) : channels - draw.randint(0, 1)]
        self.order = {"flip": order.flip(0), "roll": order.roll(2), "some": order}[how].tolist()
        self.out = len(self.order)

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.order]

    def kill(self, dead: Tensor) -> Tensor:
        return dead[self.order]


class Normed(nn.Module):
    """A normalisation over channels: a cut of what it reads changes what it gives."""

    neutral = False

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.out, self.last = channels, draw.random() < 0.5
        groups = draw.choice([each for each in (1, 2, 4) if channels % each == 0])
        self.norm = nn.LayerNorm(channels) if self.last else nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        if self.last:
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.norm(x)

    def kill(self, dead: Tensor) -> Tensor:
        raise AssertionError("not neutral")
