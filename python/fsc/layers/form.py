"""Every layer that mixes linearly as a two-dimensional convolution, padded equally with zeros.

The problems of this room know that one form. A Linear reads its pixels through a 1x1 kernel; rows
of pixels are images of height one; volumes are cut into their patches before; other padding is
added to the image; a transposed convolution is an ordinary one on its input spread out by the
stride, with the kernel turned round, so that its columns are those of the scattered input.
"""

import math
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

# Values of one piece of the images: volumes are cut into patches of 27 and more values a pixel.
_PIECE = 1 << 24


class Form:
    """A layer as a convolution on another image.

    Args:
        layer: a Conv1d, Conv2d, Conv3d, one of them transposed, or a Linear.

    Attributes:
        convolution: what it is; the layer itself where that has the form already.

    Raises:
        ValueError: the layer is of another kind.
    """

    def __init__(self, layer: nn.Module) -> None:
        """Finds the form; weights are shared where they have its shape."""
        if not isinstance(layer, nn.modules.conv._ConvNd | nn.Linear):
            raise ValueError(f"layer must be a convolution or Linear, got {type(layer).__name__}")
        given: Any = layer  # whose attributes its kind decides
        self.layer = given
        self.is_linear = isinstance(layer, nn.Linear)
        self.is_transposed = bool(getattr(layer, "transposed", False))
        self.dims = 0 if self.is_linear else len(given.kernel_size)
        pads = [] if self.is_linear or self.is_transposed else _padding(given)
        is_even = all(before == after for before, after in pads)
        self.pads_itself = is_even and self.dims < 3 and not self._has_mode()
        self.pads = [] if self.pads_itself else pads
        is_plain = isinstance(layer, nn.Conv2d) and self.pads_itself
        self.convolution: nn.Conv2d = given if is_plain else self._as_convolution(pads)

    def image(self, features: Tensor) -> Tensor:
        """What the convolution reads where the layer reads [N, C_in, ...] or [N, ..., C_in]."""
        if self.convolution is self.layer:
            return features
        if self.is_linear:
            pixels = features[:, None] if features.ndim == 2 else features.flatten(1, -2)
            return pixels.movedim(-1, 1)[..., None]  # [N, C_in, pixels, 1]
        if self.is_transposed:
            features = _spread(features, self.layer)
        elif any(zeros for pair in self.pads for zeros in pair):
            mode = "constant" if self.layer.padding_mode == "zeros" else self.layer.padding_mode
            flat = [zeros for pair in reversed(self.pads) for zeros in pair]
            features = nn.functional.pad(features, flat, mode)
        if self.dims == 1:
            return features[:, :, None]  # [N, C_in, 1, L]
        return features if self.dims == 2 else self._patches(features)

    def pieces(self, features: Tensor) -> Iterator[slice]:
        """Which images become images of the convolution at once, one at least."""
        step = max(1, len(features))
        if self.dims == 3:
            values = features[:1].numel() * math.prod(self.layer.kernel_size)
            step = max(1, _PIECE // max(1, values))
        for begin in range(0, len(features), step):
            yield slice(begin, begin + step)

    def weight(self, weight: Tensor) -> Tensor:
        """The weight of the layer from that of its convolution, [C_out, C_in / groups, kH, kW]."""
        if self.convolution is self.layer:
            return weight
        if not self.is_transposed:
            return weight.reshape(self.layer.weight.shape)
        blocks = weight.reshape(self.layer.groups, -1, weight.shape[1], *self.layer.kernel_size)
        own = blocks.transpose(1, 2).flatten(0, 1)  # [C_in, C_out / groups, ...]
        return own.flip(tuple(range(2, own.ndim)))

    def _has_mode(self) -> bool:
        return getattr(self.layer, "padding_mode", "zeros") != "zeros"

    def rows(self, weight: Tensor) -> Tensor:
        """A weight of the layer, one row an output channel, [C_out, C_in / groups, ...]."""
        if not self.is_transposed:
            return weight
        blocks = weight.unflatten(0, (self.layer.groups, -1)).transpose(1, 2).flatten(0, 1)
        return blocks.flip(tuple(range(2, blocks.ndim)))

    def _as_convolution(self, pads: list[tuple[int, int]]) -> nn.Conv2d:
        layer, rows = self.layer, self.rows(self.layer.weight.detach())
        padding = [before for before, _ in pads] if self.pads_itself else []
        if self.dims in (0, 3):
            kernel, stride, dilation = (rows[0, 0].numel(), 1), (1, 1), (1, 1)
        else:
            kernel = _two(layer.kernel_size)
            stride = (1, 1) if self.is_transposed else _two(layer.stride)
            dilation = _two(layer.dilation)
        convolution = nn.Conv2d(
            layer.in_features if self.is_linear else layer.in_channels,
            len(rows),
            kernel,
            stride,
            _two(padding, 0) if self.dims in (1, 2) else 0,
            dilation,
            getattr(layer, "groups", 1),
            device="meta",
        )
        weight = rows.reshape(len(rows), rows.shape[1], *kernel)
        convolution.weight = nn.Parameter(weight, requires_grad=False)
        bias = layer.bias
        convolution.bias = None if bias is None else nn.Parameter(bias.detach(), False)
        return convolution

    def _patches(self, volume: Tensor) -> Tensor:
        """Every patch of a volume [N, C, D, H, W] in a column of its own, [N, C, taps, patches]."""
        for axis in range(3):
            dilation = self.layer.dilation[axis]
            reach = dilation * (self.layer.kernel_size[axis] - 1) + 1
            stride = 1 if self.is_transposed else self.layer.stride[axis]
            volume = volume.unfold(2 + axis, reach, stride)[..., ::dilation]
        # [N, C, D', H', W', kD, kH, kW]
        return volume.permute(0, 1, 5, 6, 7, 2, 3, 4).flatten(5).flatten(2, 4)


def _two(values: Any, filling: int = 1) -> tuple[int, int]:
    """The numbers of a layer of one or two dimensions, for two."""
    filled = (filling, filling, *values)
    return filled[-2], filled[-1]


def _padding(layer: Any) -> list[tuple[int, int]]:
    """What stands before and after the pixels of every dimension."""
    if layer.padding == "valid":
        return [(0, 0) for _ in layer.kernel_size]
    if layer.padding != "same":
        return [(zeros, zeros) for zeros in layer.padding]
    totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
    return [(total // 2, total - total // 2) for total in totals]


def _spread(features: Tensor, layer: Any) -> Tensor:
    """The input of a transposed convolution with zeros between its pixels and around them.

    What an ordinary convolution of stride 1 makes of it, the kernel turned round, is what the
    transposed one scatters.
    """
    sizes = [(size - 1) * s + 1 for size, s in zip(features.shape[2:], layer.stride, strict=True)]
    spread = features.new_zeros(*features.shape[:2], *sizes)
    pixels: Any = (..., *(slice(None, None, s) for s in layer.stride))
    spread[pixels] = features
    flat: list[int] = []
    for axis in reversed(range(len(sizes))):
        reach = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
        before = reach - layer.padding[axis]  # where it is negative, pixels fall off
        flat += [before, before + layer.output_padding[axis]]
    return nn.functional.pad(spread, flat)
