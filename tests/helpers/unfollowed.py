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


class AsksForLengthAndFlattens(AsksForLength):
    """The number of images goes into shapes, also with others in a product."""

    def head(self, features):
        rows = features.flatten(2).transpose(1, 2).reshape(len(features) * 64, 16)
        ones = torch.ones(len(features), 1)
        return self.d(ones * rows.view(len(features), 64, 16).mean(1))


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


class FillsParts(Base):
    """Two parts of an empty tensor, one after the other."""

    def forward(self, x):
        features = self.features(x)
        whole = torch.zeros_like(features)
        whole[:, :, :4] = features[:, :, :4]
        whole[:, :, 4:] = features[:, :, :4]
        return self.head(whole)


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


class CountsTypes(Counts):
    """torch.fx reads a list in the place of its input; it writes into a buffer besides."""

    def forward(self, x):
        if isinstance(x, Tensor):
            x = [x]
        self.count.add_(1)
        return Base.forward(self, torch.cat(x, 1))


class AsksBesides(Base):
    """A part that is not called on a single tensor, and that torch.fx cannot follow."""

    def __init__(self):
        super().__init__()
        self.part = AsksForLength()

    def forward(self, x):
        return super().forward(x) if isinstance(x, Tensor) else self.part(x)


class Hooked(Base):
    """A hook doubles what a layer gives."""

    def __init__(self):
        super().__init__()
        self.a.register_forward_hook(lambda module, inputs, output: 2 * output)

    def forward(self, x):
        if len(x) > 100:
            x = x[:100]
        return super().forward(x)


class Applies(Base):
    """Computes things with its features; asks for a length, so that torch.export is needed."""

    def __init__(self, *computed):
        super().__init__()
        self.computed = computed
        self.e = nn.Linear(16, 16)
        self.norm = nn.LayerNorm(8)
        self.groups = nn.GroupNorm(2, 16)
        self.slope = nn.PReLU(16)
        self.up = nn.ConvTranspose2d(16, 16, 3)
        self.doubled = Doubled(16, 16)

    def forward(self, x):
        if len(x) > 100:
            x = x[:100]
        features = self.features(x)
        return tuple(self.head(compute(self, features)) for compute in self.computed)


class Doubled(nn.Linear):
    """Calls the function of a Linear with its own weights, and something besides."""

    def forward(self, input):
        return 2 * F.linear(input, self.weight, self.bias)


def written(*place, value=0.0):
    """Writes into a part of the features."""

    def compute(network, features):
        features = features.clone()
        features[place] = value
        return features

    return compute


def last(compute):
    """On channels as the last axis."""
    return lambda m, f: compute(m, f.movedim(1, -1)).movedim(-1, 1)


ROWS = slice(None), slice(None)
# One for every operator that the graph of torch.export gets another name for.
COMPUTED = {
    "conv2d without bias": lambda m, f: F.conv2d(f, m.c.weight.repeat(1, 2, 1, 1), padding=1),
    "conv_transpose2d": lambda m, f: m.up(f),
    "conv_transpose2d without bias": lambda m, f: F.conv_transpose2d(f, m.up.weight),
    "linear": last(lambda m, f: m.e(f)),
    "linear without bias": last(lambda m, f: F.linear(f, m.e.weight)),
    "linear with another bias": last(lambda m, f: F.linear(f, m.e.weight, m.c.bias)),
    "linear in a forward of its own": last(lambda m, f: m.doubled(f)),
    "batch_norm": lambda m, f: m.b(f[:, :8]).repeat(1, 2, 1, 1),
    "batch_norm without bias": lambda m, f: F.batch_norm(
        f[:, :8], m.b.running_mean, m.b.running_var, m.b.weight
    ).repeat(1, 2, 1, 1),
    "layer_norm": lambda m, f: m.norm(f),
    "layer_norm without bias": lambda m, f: F.layer_norm(f, [8], m.norm.weight),
    "layer_norm with another divisor": lambda m, f: F.layer_norm(
        f, [8], m.norm.weight, m.norm.bias, 0.5
    ),
    "group_norm": lambda m, f: m.groups(f),
    "group_norm in other groups": lambda m, f: F.group_norm(f, 4, m.groups.weight, m.groups.bias),
    "prelu": lambda m, f: m.slope(f - 1),
    "expand": lambda m, f: f[:, :, :1].expand(-1, -1, 8, -1),
    "split": lambda m, f: torch.cat(f.split(4, 1)[::-1], 1),
    "split_with_sizes": lambda m, f: torch.cat(f.split([4, 12], 1)[::-1], 1),
    "chunk": lambda m, f: torch.cat(f.chunk(3, 1)[::-1], 1),
    "mean": lambda m, f: f - f.mean(1, keepdim=True),
    "mean of all": lambda m, f: f * f.detach()[:, :1].sign().mean((1, 2, 3), keepdim=True),
    "view": lambda m, f: f.contiguous().view(-1, 16, 4, 16),
    "view of bits": lambda m, f: f + f.float().view(torch.int32).sign(),
    "slice": lambda m, f: f[:, :, 1:-1:2, -3:],
    "slice_scatter": written(*ROWS, slice(2, 4)),
    "slice_scatter at the start": written(*ROWS, slice(3)),
    "slice_scatter at the end": written(*ROWS, slice(-2, None)),
    "slice_scatter from behind": written(*ROWS, slice(-4, -2)),
    "slice_scatter of nothing": written(*ROWS, slice(4, 2)),
    "slice_scatter of all": written(*ROWS, slice(-20, 20)),
    "slice_scatter in steps": written(*ROWS, slice(0, None, 2)),
    "slice_scatter of images": written(slice(1, 3)),
    "relu": lambda m, f: torch.relu(f - 1),
    "sigmoid": lambda m, f: torch.sigmoid(f),
    "tanh": lambda m, f: torch.tanh(f),
    "add": lambda m, f: torch.add(f, f.sin(), alpha=3),
    "cat": lambda m, f: torch.cat([f[:, 8:], f[:, :8]], 1),
    "adaptive_avg_pool2d": lambda m, f: F.adaptive_avg_pool2d(f, (3, 2)),
    "adaptive_max_pool2d": lambda m, f: F.adaptive_max_pool2d(f, (3, 2)),
    "avg_pool2d": lambda m, f: F.avg_pool2d(f, 3, 2, 1, True, False),
    "max_pool2d": lambda m, f: F.max_pool2d(f, 3, 2, 1, 1, True),
    "max_pool2d with indices": lambda m, f: F.max_pool2d(f, 2, return_indices=True)[0],
    "leaky_relu": lambda m, f: F.leaky_relu(f - 1, 0.3),
    "elu": lambda m, f: F.elu(f - 1, 0.7),
    "selu": lambda m, f: F.selu(f - 1),
    "celu": lambda m, f: F.celu(f - 1, 0.5),
    "gelu": lambda m, f: F.gelu(f - 1, approximate="tanh"),
    "silu": lambda m, f: F.silu(f - 1),
    "mish": lambda m, f: F.mish(f - 1),
    "hardswish": lambda m, f: F.hardswish(f - 1),
    "hardsigmoid": lambda m, f: F.hardsigmoid(f - 1),
    "hardtanh": lambda m, f: F.hardtanh(f - 1, -0.2, 0.3),
    "softplus": lambda m, f: F.softplus(f - 1, 2.0, 10.0),
}

FOLLOWED = [AsksForTypes, LeavesOneOut, TakesAnyNumber, CastsItself, AsksForLength,
            AsksForLengthAndFlattens, DividesByNumpy, Maps, CallsScript, WritesPixels]  # fmt: skip
