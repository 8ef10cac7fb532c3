"""Networks to be exported, and marks of tests for which a format must be installed."""

from dataclasses import dataclass
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from fsc.networks.program_files import FORMATS

HAS_ONNX = all(find_spec(name) for name in FORMATS[".onnx"].packages)
needs_onnx = pytest.mark.skipif(not HAS_ONNX, reason="the extra onnx is not installed")
both = pytest.mark.parametrize("suffix", [".pt2", pytest.param(".onnx", marks=needs_onnx)])


class Layer(nn.Module):
    """One convolution; the others of this file do something with it."""

    def __init__(self, dimensions=2):
        super().__init__()
        kinds = {1: nn.Conv1d, 2: nn.Conv2d}
        self.layer = kinds[dimensions](3, 4, 3)

    def forward(self, x):
        return self.layer(x)


class Two(Layer):
    def forward(self, image, index):
        scores = self.layer(image).mean((2, 3))
        return {"scores": scores + index[:, None], "best": (scores.argmax(1), scores > 0)}


class Count(Layer):
    def forward(self, x):
        return self.layer(x).view(len(x), -1)


class Pair(Layer):
    def forward(self, x):
        return self.layer(x).view(2, -1)


class Branch(Layer):
    def forward(self, x):
        if x.sum() > 0:
            return x
        return self.layer(x)


class Noise(Layer):
    def forward(self, x):
        return self.layer(x) + torch.rand_like(x[:, :1, 1:-1, 1:-1])


class Logarithm(Layer):
    def forward(self, x):
        return self.layer(x).log()


class Steep(Layer):
    def forward(self, x):
        return (1e6 * self.layer(x)).sin()


class Squeezed(Layer):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        return self.head(nn.functional.adaptive_avg_pool2d(self.layer(x), 1).squeeze())


class Given(Layer):
    def forward(self, x):
        return x, self.layer(x)


class WithNumber(Layer):
    def forward(self, x):
        return self.layer(x), 3


class WithText(Layer):
    def forward(self, x):
        return {"scores": self.layer(x), "kind": "cat"}


class Svd(Layer):
    def forward(self, x):
        return torch.linalg.svd(self.layer(x))[1]


@dataclass
class Scores:
    scores: torch.Tensor


class InAClass(Layer):
    def forward(self, x):
        return Scores(self.layer(x))
