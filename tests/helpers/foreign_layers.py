"""Layers as other libraries write them, of every kind that `fsc.plain` rewrites or leaves."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsc.schemes import Scheme


class NormInside(nn.BatchNorm2d):
    """A BatchNorm subclass, functional inside, with its activation."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.ndim == 4
        mean, variance = self.running_mean, self.running_var
        x = F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.1, self.eps)
        return F.leaky_relu(x, 0.2, inplace=True)


class NormDropAct(nn.BatchNorm2d):
    """A BatchNorm subclass that calls its own forward, dropout and an activation module."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-3, momentum=0.3)
        self.drop, self.act = nn.Identity(), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(F.dropout(super().forward(x), 0.5, self.training)))


class SameConv(nn.Conv2d):
    """Pads so that the output has ceil(size / stride) pixels, more behind than in front."""

    def forward(self, x: Tensor) -> Tensor:
        sides = []
        for size, kernel, stride in zip(x.shape[-2:], self.kernel_size, self.stride, strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            sides = [total // 2, total - total // 2, *sides]
        return F.conv2d(F.pad(x, sides), self.weight, self.bias, self.stride, groups=self.groups)


class StandardisedConv(nn.Conv2d):
    def __init__(self, *args: int, **kwargs: int) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.rand(self.out_channels, 1, 1, 1) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.weight.flatten(1)  # [C_out, C_in * kH * kW]
        rows = (rows - rows.mean(1, keepdim=True)) / rows.std(1, keepdim=True)
        weight = self.gain * rows.view_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


class BiaslessNorm(nn.GroupNorm):
    """A GroupNorm of one group that has a weight and no bias."""

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)
        self.bias = None  # type: ignore[assignment]
        nn.init.uniform_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)


class ResponseNorm(nn.Module):
    """Each channel by the share that it has in the mean over all channels."""

    def __init__(self, channels: int, last: bool = False) -> None:
        super().__init__()
        self.pixels, self.axis = ((1, 2), -1) if last else ((2, 3), 1)
        self.weight = nn.Parameter(torch.rand((channels,) if last else (channels, 1, 1)))

    def forward(self, x: Tensor) -> Tensor:
        size = x.norm(p=2, dim=self.pixels, keepdim=True)
        return x + x * self.weight * (size / (size.mean(dim=self.axis, keepdim=True) + 1e-6))


class CastingLinear(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), self.bias)


class Inheriting(nn.Conv2d):
    """Only the constructor is its own."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, padding_mode="reflect")
        self.owner = Scheme("of another class", {})


class Overriding(nn.Conv2d):
    """The inherited forward calls a method of its own."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return super()._conv_forward(x, weight * 2, bias)


class FrozenNorm(nn.Module):
    """Statistics in buffers, applied by a formula, an activation behind."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.eps = 1e-4
        for name, start in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, torch.full((channels,), float(start)))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return F.relu(x * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1))


def some_depth(x: Tensor, p: float, training: bool) -> Tensor:
    if not training or p == 0.0:
        return x
    return x * torch.empty(x.shape[0], 1, 1, 1).bernoulli_(1 - p)


torch.fx.wrap("some_depth")


class WrappedDepth(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return some_depth(x, 0.5, self.training)


class DropPath(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rand(x.shape[0], 1, 1, 1) if self.training else x


class PoolsIfSmall(nn.Module):
    """A head that branches on the size of its input, and reads the number of images."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.act = nn.Conv2d(6, 5, 7), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] < 7 or x.shape[-2] < 7:
            x = F.adaptive_avg_pool2d(x, (max(7, x.shape[-2]), max(7, x.shape[-1])))
        images, channels, height, width = x.shape
        return self.act(self.convolution(x.reshape(images, channels, height, width)))


class OwnWeight(nn.Module):
    """No layer of torch.nn at all."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 6, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, padding=1)


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.rand(6, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Dynamic(nn.Conv2d):
    """Its weight depends on its input."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * x.mean(), self.bias, padding=1)


class DependsOnValues(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if x.sum() > 0 else -x)


class GrowsIfSmall(nn.Module):
    """Without layers of its own, a branch on sizes."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.shape[-1] > 4 else F.interpolate(x, size=5)


IMAGES = torch.randn(2, 3, 9, 8, generator=torch.Generator().manual_seed(0))


def network(*middle: nn.Module) -> nn.Sequential:
    """A convolution to six channels and layers behind it, with statistics as of a trained one."""
    model = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), *middle).eval()
    torch.manual_seed(1)
    for module in model.modules():
        if isinstance(getattr(module, "running_mean", None), Tensor):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2.0)
    return model
