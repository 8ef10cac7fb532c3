"""Small VGGs and the digits of scikit-learn, for what only a trained network shows."""

from functools import cache

import torch
from torch import Tensor, nn

from fsc.images import data
from fsc.training import supervised

WIDTHS = (16, 32, 64)


def small_vgg(*counts: int, seed: int = 0) -> nn.Sequential:
    """Stages of so many 3x3 convolutions with BatchNorm, max-pooling between them, and a head."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    before = 1
    for count, width in zip(counts, WIDTHS, strict=True):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)]
            layers += [nn.ReLU()]
            before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, 10))


@cache
def digits(split: str) -> tuple[Tensor, Tensor]:
    """Images [N, 1, 8, 8] of a split, and their classes [N]."""
    found = data.load("digits", split)
    return data.to_tensor(found.images, [0.3], [0.37]), torch.from_numpy(found.labels)


@cache
def trained_vgg(*counts: int, epochs: int = 6) -> nn.Sequential:
    """A small VGG that knows the digits; it is shared, and must not be changed."""
    model = small_vgg(*counts)
    supervised.train(model, *digits("train"), epochs=epochs, learning_rate=0.05)
    return model
