"""Networks whose forward torch.fx cannot follow, and torch.export can."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Base(nn.Module):
    """Two convolutions with a BatchNorm between them, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3, padding=1)
        self.b = nn.BatchNorm2d(8)
        self.c = nn.Conv2d(8, 16, 3, padding=1)
        self.d = nn.Linear(16, 5)

    def features(self, x: Tensor) -> Tensor:
        return F.relu(self.c(F.relu(self.b(self.a(x)))))

    def head(self, features: Tensor) -> Tensor:
        return self.d(features.mean((2, 3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class AsksForTypes(Base):
    def forward(self, x):
        if isinstance(x, Tensor):
            x = [x]
        return super().forward(torch.cat(x, 1))


class LeavesOneOut(Base):
    def forward(self, x, mask=None):
        features = self.features(x)
        return self.head(features if mask is None else features * mask)


class TakesAnyNumber(Base):
    def forward(self, *inputs, **options):
        return super().forward(inputs[0])


class CastsItself(Base):
    """Runs in no dtype but float32."""

    def forward(self, x):
        if x.dtype != torch.float32:
            x = x.float()
        if x.requires_grad:
            x = x.detach()
        return super().forward(x)


class AsksForLength(Base):
    def forward(self, x):
        if len(x) > 100:
            x = x[:100]
        return super().forward(x)


class DividesByNumpy(Base):
    def forward(self, x):
        features = self.features(x)
        return self.head(features / np.sqrt(features.shape[1]))


class Maps(Base):
    def forward(self, x):
        return self.head(torch.vmap(lambda image: 2 * image)(self.features(x)))


@torch.jit.script
def swish(x):
    return x * torch.sigmoid(x)


class CallsScript(Base):
    def forward(self, x):
        return self.head(swish(self.features(x)))


class WritesPixels(Base):
    """Into a part of a tensor: every second row of pixels becomes zero."""

    def forward(self, x):
        features = self.features(x)
        features[:, :, 2:4] = 0
        return self.head(features)


class WritesChannels(Base):
    """The first two channels become zero."""

    def forward(self, x):
        features = self.features(x)
        features[:, :2] = 0
        return self.head(features)


class AddsZeros(Base):
    """Of a size that is written into the graph."""

    def forward(self, x):
        features = self.features(x)
        return self.head(features + torch.zeros(*features.shape[:2], 1, 1))


class TakesImagesApart(Base):
    """One by one, so that its graph holds for one number of images."""

    def forward(self, x):
        return torch.stack([self.d(each.mean((1, 2))) for each in self.features(x)])


class Counts(Base):
    """Writes into a buffer."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += len(x)
        return super().forward(x)


class Hooked(Base):
    """A hook doubles what a layer gives."""

    def __init__(self):
        super().__init__()
        self.a.register_forward_hook(lambda module, inputs, output: 2 * output)

    def forward(self, x):
        if len(x) > 100:
            x = x[:100]
        return super().forward(x)


FOLLOWED = [AsksForTypes, LeavesOneOut, TakesAnyNumber, CastsItself, AsksForLength, DividesByNumpy,
            Maps, CallsScript, WritesPixels]  # fmt: skip
