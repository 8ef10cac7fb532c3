"""Blocks of random networks, each of which can lose channels without a trace.

A block takes and gives [N, C, H, W]. `kill(dead)` is told which of its input channels are zero in
every image; it zeroes weights so that some of its output channels, and of those inside, are zero
too, and so is every weight that reads such a channel: half of those that go together. It returns
which output channels are zero, [C] bool. A cut at one half that takes the smallest then changes
nothing; this is known here from how the block is made, and not from fsc's own groups.
"""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Those of which f(0) = 0.
ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.Tanh, nn.ELU)


def half(size: int, draw: random.Random) -> Tensor:
    """Half of so many channels."""
    dead = torch.zeros(size, dtype=torch.bool)
    dead[draw.sample(range(size), size // 2)] = True
    return dead


def even(draw: random.Random, most: int = 12) -> int:
    """A number of channels."""
    return 2 * draw.randint(2, most // 2)


@torch.no_grad()
def silence(layer: nn.Module, inputs: Tensor, outputs: Tensor) -> None:
    """Zero what a layer reads of dead channels, and what it makes of those that shall be."""
    transposed = isinstance(layer, nn.ConvTranspose2d)
    rows, columns = (1, 0) if transposed else (0, 1)
    layer.weight.transpose(0, rows)[outputs] = 0
    if layer.weight.shape[columns] == len(inputs):
        layer.weight.transpose(0, columns)[inputs] = 0
    if layer.bias is not None:
        layer.bias[outputs] = 0


@torch.no_grad()
def silence_norm(norm: nn.Module, dead: Tensor) -> None:
    """Make a normalisation, if it is one, give zero for channels that are zero."""
    if isinstance(norm, nn.Identity):
        return
    for each in (norm.weight, norm.bias):
        if each is not None:
            each[dead] = 0
    if norm.weight is None and getattr(norm, "running_mean", None) is not None:
        norm.running_mean[dead] = 0


def normalisation(channels: int, draw: random.Random) -> nn.Module:
    """One with statistics as of training, one without, or none."""
    kind = draw.choice(("batch", "batch", "batch", "plain", "instance", "none", "none"))
    if kind == "none":
        return nn.Identity()
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    norm = nn.BatchNorm2d(channels, affine=kind == "batch")
    norm.running_mean.normal_(0, 0.2)
    norm.running_var.uniform_(0.3, 2)
    if kind == "batch":
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
    return norm


class Plain(nn.Module):
    """A convolution of any kind, a normalisation, an activation."""

    def __init__(self, channels: int, draw: random.Random, out: int | None = None) -> None:
        super().__init__()
        self.draw, self.out = draw, out or even(draw)
        size, dilation = draw.choice((1, 3, 3, 3, 5)), draw.choice((1, 1, 1, 2))
        bias, mode = draw.random() < 0.5, draw.choice(("zeros", "zeros", "reflect"))
        padding = dilation * (size // 2)
        if padding > 2:  # a map may have no more than three pixels to reflect
            mode = "zeros"
        self.conv = nn.Conv2d(
            channels, self.out, size, padding=padding, dilation=dilation, bias=bias,
            padding_mode=mode,
        )  # fmt: skip
        self.norm = normalisation(self.out, draw)
        self.act = nn.PReLU(self.out) if draw.random() < 0.1 else draw.choice(ACTIVATIONS)()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))

    def kill(self, dead: Tensor, chosen: Tensor | None = None) -> Tensor:
        chosen = half(self.out, self.draw) if chosen is None else chosen
        silence(self.conv, dead, chosen)
        silence_norm(self.norm, chosen)
        return chosen


class Residual(nn.Module):
    """A stream and what is added to it, through a projection where its width changes."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.out = channels if draw.random() < 0.6 else even(draw)
        self.draw, self.inside = draw, Plain(channels, draw)
        self.last = Plain(self.inside.out, draw, self.out)
        self.projection = None if self.out == channels else nn.Conv2d(channels, self.out, 1)
        self.first = draw.random() < 0.5

    def forward(self, x: Tensor) -> Tensor:
        own, stream = self.last(self.inside(x)), self.projection(x) if self.projection else x
        return F.relu(own + stream) if self.first else stream + own

    def kill(self, dead: Tensor) -> Tensor:
        chosen = dead if self.projection is None else half(self.out, self.draw)
        self.last.kill(self.inside.kill(dead), chosen)
        if self.projection is not None:
            silence(self.projection, dead, chosen)
        return chosen


class Joined(nn.Module):
    """Branches beside each other, one of them the input itself now and then."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.branches = nn.ModuleList(Plain(channels, draw) for _ in range(draw.randint(1, 3)))
        self.keeps = draw.random() < 0.5 and channels < 20
        self.out = sum(branch.out for branch in self.branches) + self.keeps * channels

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([*([x] if self.keeps else []), *(each(x) for each in self.branches)], 1)

    def kill(self, dead: Tensor) -> Tensor:
        own = [branch.kill(dead) for branch in self.branches]
        return torch.cat([*([dead] if self.keeps else []), *own])


class Split(nn.Module):
    """A convolution whose halves meet again: multiplied, added, or in the other order."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.draw, self.width, self.how = draw, even(draw), draw.choice(("times", "plus", "swap"))
        self.up = nn.Conv2d(channels, 2 * self.width, 1)
        self.out = 2 * self.width if self.how == "swap" else self.width

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.up(x).chunk(2, 1)
        if self.how == "swap":
            return torch.cat([second, F.relu(first)], 1)
        return first * F.gelu(second) if self.how == "times" else F.relu(first + second)

    def kill(self, dead: Tensor) -> Tensor:
        # Halves stay halves where both lose the same channels.
        chosen = half(self.width, self.draw)
        silence(self.up, dead, chosen.repeat(2))
        return chosen.repeat(2) if self.how == "swap" else chosen


class Gate(nn.Module):
    """Channels are weighed by what they hold together; or pixels, by a mask."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        self.draw, self.out, self.pixels = draw, channels, draw.random() < 0.3
        self.squeeze = nn.Conv2d(channels, 1 if self.pixels else even(draw, 8), 1)
        self.excite = None if self.pixels else nn.Conv2d(self.squeeze.out_channels, channels, 1)
        self.gate = draw.choice((torch.sigmoid, F.hardsigmoid))

    def forward(self, x: Tensor) -> Tensor:
        if self.excite is None:
            return x * self.gate(self.squeeze(x))
        held = F.adaptive_avg_pool2d(x, 1)
        return x * self.gate(self.excite(F.relu(self.squeeze(held))))

    def kill(self, dead: Tensor) -> Tensor:
        if self.excite is None:
            silence(self.squeeze, dead, torch.zeros(1, dtype=torch.bool))
            return dead
        inside = half(self.squeeze.out_channels, self.draw)
        silence(self.squeeze, dead, inside)
        silence(self.excite, inside, dead)
        return dead
