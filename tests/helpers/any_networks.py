"""Small networks of every number of axes, inputs and outputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGES = torch.randn(6, 3, 10, 10, generator=torch.Generator().manual_seed(1))
MASKS = torch.randn(6, 1, 10, 10, generator=torch.Generator().manual_seed(2))
WORDS = torch.randint(7, (6, 4), generator=torch.Generator().manual_seed(3))
VALID = torch.tensor([[True, True, True, False]]).expand(6, 4)


class Signal(nn.Module):
    """Convolutions of signals with BatchNorm, pooled; a residual block of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv1d(3, 8, 5, padding=2, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.inside = nn.Conv1d(8, 12, 3, stride=2)
        self.out = nn.Conv1d(12, 12, 3, padding=1)
        self.pool = nn.AdaptiveAvgPool1d(1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inside(F.relu(self.norm(self.stem(x)))))
        return self.head(self.pool(F.relu(x + self.out(x))).flatten(1))


class Volume(nn.Module):
    """Convolutions of volumes; a BatchNorm behind one, and the mean over all pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(2, 6, 3, padding=1)
        self.norm = nn.BatchNorm3d(6)
        self.inside = nn.Conv3d(6, 8, 3, stride=2)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.inside(F.relu(self.norm(self.stem(x)))))
        return self.head(x.mean((2, 3, 4)))


class Mixed(nn.Module):
    """A volume whose depth a convolution uses up, then pictures, then their rows as signals."""

    def __init__(self) -> None:
        super().__init__()
        self.deep = nn.Conv3d(1, 6, (4, 3, 3), padding=(0, 1, 1))
        self.flat = nn.Conv2d(6, 8, 3, padding=1)
        self.rows = nn.Conv1d(8, 6, 3)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.flat(F.relu(self.deep(x)).squeeze(2)))
        return self.head(F.relu(self.rows(x.mean(3))).mean(2))


class Layered(nn.Module):
    """No convolution at all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(7, 12), nn.Linear(12, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.second(F.relu(self.first(x)))))


class Two(nn.Module):
    """An image and a mask."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.c = nn.Conv2d(8, 12, 3, padding=1)
        self.head = nn.Linear(12, 5)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x = F.relu(self.norm(self.a(image)) + self.b(mask))
        return self.head(F.relu(self.c(x)).mean((2, 3)))


class OneDict(Two):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(batch["image"], batch["mask"])


class WalkedDict(Two):
    """Goes through the dict, which torch.fx cannot with a dict of its own."""

    def forward(self, batch: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        image, mask = (value for _, value in sorted(batch.items()))
        return super().forward(image, mask)


class Sized(Two):
    """Has a number of channels written into its forward."""

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x = F.relu(self.c(F.relu(self.norm(self.a(image)) + self.b(mask))))
        return self.head(x.view(x.size(0), 12, -1).mean(2))


class Optional(Two):
    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:  # type: ignore[override]
        return super().forward(image, image[:, :1] if mask is None else mask)


class Reading(nn.Module):
    """An image, words as indices, and which of the words count."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Conv2d(3, 8, 3, padding=1)
        self.table = nn.Embedding(7, 6)
        self.words = nn.Conv1d(6, 8, 1)
        self.inside = nn.Conv2d(8, 10, 3)
        self.head = nn.Linear(10, 5)

    def forward(self, image: Tensor, words: Tensor, *, valid: Tensor) -> Tensor:
        said = self.words(self.table(words).transpose(1, 2)) * valid[:, None]  # [N, 8, L]
        x = F.relu(self.image(image) + said.mean(2)[:, :, None, None])
        return self.head(F.relu(self.inside(x)).mean((2, 3)))


class Words(nn.Module):
    """Reads nothing but indices of words."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 6)
        self.inside = nn.Conv1d(6, 8, 3)
        self.head = nn.Linear(8, 5)

    def forward(self, words: Tensor) -> Tensor:
        x = self.inside(self.table(words).transpose(1, 2))  # [N, 8, L - 2]
        return self.head(x.relu().mean(2))


class Heads(nn.Module):
    """Classes and, behind a layer of its own, a map for every image."""

    wrap: Callable[[Tensor, Tensor], Any] = staticmethod(lambda classes, maps: (classes, [maps]))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Conv2d(8, 12, 3, padding=1)
        self.side = nn.Conv2d(12, 6, 3, padding=1)
        self.map = nn.Conv2d(6, 2, 1)
        self.classes = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Any:
        x = F.relu(self.body(F.relu(self.stem(x))))
        return self.wrap(self.classes(x.mean((2, 3))), self.map(F.relu(self.side(x))))


@dataclass
class Found:
    classes: Tensor
    maps: Tensor


class Named(NamedTuple):
    classes: Tensor
    maps: Tensor


class DictHeads(Heads):
    wrap = staticmethod(lambda classes, maps: {"classes": classes, "deep": {"maps": maps}})


class DataclassHeads(Heads):
    wrap = staticmethod(Found)


class NamedHeads(Heads):
    wrap = staticmethod(Named)


class Branching(Heads):
    """Pools large images first."""

    wrap = staticmethod(lambda classes, maps: classes)

    def forward(self, x: Tensor) -> Any:
        return super().forward(F.avg_pool2d(x, 2) if x.shape[-1] > 8 else x)


class Plain(Heads):
    wrap = staticmethod(lambda classes, maps: classes)


class Tagged(Tensor):
    """A subclass of Tensor, as libraries mark their images."""


def images(*shape: int) -> Tensor:
    """Images of a shape."""
    return torch.randn(6, *shape, generator=torch.Generator().manual_seed(4))


# What a network is called with -> name: (the network, what `fsc.compress` is given).
CASES: dict[str, tuple[Callable[[], nn.Module], Any]] = {
    "signal": (Signal, images(3, 30)),
    "volume": (Volume, images(2, 6, 6, 6)),
    "mixed": (Mixed, images(1, 4, 8, 8)),
    "layered": (Layered, images(7)),
    "tuple": (Two, (IMAGES, MASKS)),
    "keywords": (Two, {"mask": MASKS, "image": IMAGES}),
    "dict": (OneDict, {"image": IMAGES, "mask": MASKS}),
    "walked": (WalkedDict, {"image": IMAGES, "mask": MASKS}),
    "sized": (Sized, (IMAGES, MASKS)),
    "optional": (Optional, IMAGES),
    "optional_given": (Optional, (IMAGES, MASKS)),
    "integers": (Reading, {"image": IMAGES, "words": WORDS, "valid": VALID}),
    "words": (Words, WORDS),
    "outputs_tuple": (Heads, IMAGES),
    "outputs_dict": (DictHeads, IMAGES),
    "outputs_dataclass": (DataclassHeads, IMAGES),
    "outputs_named": (NamedHeads, IMAGES),
    "branch": (Branching, IMAGES),
    "subclass": (Plain, IMAGES.as_subclass(Tagged)),
    "frozen": (lambda: Plain().requires_grad_(False), IMAGES),
    "training": (lambda: Plain().train(), IMAGES),
    "half": (lambda: Plain().half(), IMAGES),
    "half_integers": (
        lambda: Reading().half(),
        {"image": IMAGES.half(), "words": WORDS, "valid": VALID},
    ),
    "bfloat16": (lambda: Two().bfloat16(), (IMAGES.bfloat16(), MASKS.bfloat16())),
    "double": (lambda: Two().double(), (IMAGES.double(), MASKS.double())),
    "channels_last": (lambda: Plain().to(memory_format=torch.channels_last), IMAGES),
}
