"""Networks drawn from a number: a stem, blocks of every kind, and a head."""

from __future__ import annotations

import random

import torch
import torch.nn.functional as F
from random_blocks import Gate, Joined, Plain, Residual, Split, even, half, silence
from random_movers import (
    Depthwise,
    Larger,
    Normed,
    Picked,
    Pool,
    Scaled,
    Shuffled,
    Twice,
)  # fmt: skip
from torch import Tensor, nn

BLOCKS = (
    *(Plain, Plain, Residual, Residual, Residual, Joined, Joined, Split, Gate, Depthwise),
    *(Shuffled, Scaled, Larger, Pool, Pool, Twice, Picked, Normed),
)
SIDE, MOST_CHANNELS, MOST_PIXELS = 12, 40, 32


class Head(nn.Module):
    """Scores of the pooled channels, of all pixels through a hidden layer, or a map; or two."""

    def __init__(self, channels: int, pixels: int, draw: random.Random) -> None:
        super().__init__()
        self.draw, self.how = draw, draw.choice(("pooled", "pooled", "pixels", "map", "two"))
        self.pixels = pixels
        if self.how in ("pooled", "two"):
            self.out = nn.Linear(channels, 5)
        if self.how in ("map", "two"):
            self.map = nn.Conv2d(channels, 3, 1)
        if self.how == "pixels":
            self.hidden = nn.Linear(channels * pixels, even(draw))
            self.out = nn.Linear(self.hidden.out_features, 5)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if self.how == "pixels":
            return self.out(F.relu(self.hidden(x.flatten(1))))
        if self.how == "map":
            return self.map(x)
        scores = self.out(x.mean((2, 3)))
        return (scores, self.map(x)) if self.how == "two" else scores

    def kill(self, dead: Tensor) -> None:
        none = torch.zeros(5, dtype=torch.bool)
        if self.how == "pixels":
            inside = half(self.hidden.out_features, self.draw)
            silence(self.hidden, dead.repeat_interleave(self.pixels), inside)
            silence(self.out, inside, none)
            return
        if self.how in ("pooled", "two"):
            silence(self.out, dead, none)
        if self.how in ("map", "two"):
            silence(self.map, dead, none[:3])


class Network(nn.Module):
    """What a number draws.

    Args:
        number: says all about it.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        draw = random.Random(number)
        torch.manual_seed(number)
        self.blocks = nn.ModuleList([Plain(3, draw)])
        x = torch.zeros(1, self.blocks[0].out, SIDE, SIDE)
        wanted = draw.randint(2, 6)
        while len(self.blocks) <= wanted:
            block = draw.choice(BLOCKS)(x.shape[1], draw)
            given = block.eval()(x)
            if given.shape[1] > MOST_CHANNELS or not 3 <= given.shape[-1] <= MOST_PIXELS:
                continue
            self.blocks.append(block)
            x = given
        self.head = Head(x.shape[1], x[0, 0].numel(), draw)
        self.eval()

    @property
    def is_neutral(self) -> bool:
        """Whether channels can be cut without a trace at all."""
        return all(getattr(block, "neutral", True) for block in self.blocks)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def kill(self) -> None:
        """Make half of all channels zero, and what reads them."""
        dead = torch.zeros(3, dtype=torch.bool)
        for block in self.blocks:
            dead = block.kill(dead)
        self.head.kill(dead)

    def kinds(self) -> str:
        """Its blocks, by name."""
        return ", ".join([*(type(block).__name__ for block in self.blocks), self.head.how])
