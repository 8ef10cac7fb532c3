"""The geometry of a layer's im2col: how it cuts its input into columns."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Patch:
    """How a layer cuts its input into columns: the geometry of its im2col.

    A Linear layer is a 1x1 convolution on 1x1 pixels.
    """

    in_channels: int
    kernel_size: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    bias: bool = False

    @classmethod
    def of(cls, layer: nn.Module) -> "Patch":
        """The geometry of a Conv2d (zero padding, one group) or Linear layer.

        Raises:
            ValueError: the layer is of another kind, grouped, or pads otherwise than with zeros,
                equally many on both sides.
        """
        if isinstance(layer, nn.Linear):
            return cls(layer.in_features, bias=layer.bias is not None)
        if not isinstance(layer, nn.Conv2d):
            raise ValueError(f"layer must be a Conv2d or Linear, got {type(layer).__name__}")
        if layer.groups != 1:
            raise ValueError(f"layer must be a Conv2d with groups=1, got groups={layer.groups}")
        return cls.of_group(layer)

    @classmethod
    def of_group(cls, layer: nn.Conv2d) -> "Patch":
        """The geometry of each group of a Conv2d by itself.

        Raises:
            ValueError: it pads otherwise than with zeros, equally many on both sides.
        """
        padding = _padding(layer)
        if layer.padding_mode != "zeros" or padding is None:
            raise ValueError(
                "layer must be a Conv2d with equal zero padding on both sides, got "
                f"padding={layer.padding!r}, padding_mode={layer.padding_mode!r}"
            )
        return cls(
            layer.in_channels // layer.groups,
            _pair(layer.kernel_size),
            _pair(layer.stride),
            padding,
            _pair(layer.dilation),
            layer.bias is not None,
        )

    @property
    def group_size(self) -> int:
        """Rows of the im2col that belong to one input channel."""
        return self.kernel_size[0] * self.kernel_size[1]

    @property
    def dim(self) -> int:
        """Rows of the im2col, with the row of ones where there is a bias."""
        return self.in_channels * self.group_size + int(self.bias)

    def columns(self, input: Tensor) -> Tensor:
        """The im2col of an input [N, C_in, H, W] or [N, C_in]: [dim, N H_out W_out]."""
        image = input if input.dim() == 4 else input[:, :, None, None]
        unfolded = nn.functional.unfold(
            image, self.kernel_size, self.dilation, self.padding, self.stride
        )  # [N, C_in kH kW, H_out W_out]
        flat = unfolded.transpose(0, 1).flatten(1)
        return torch.cat([flat, flat.new_ones(1, flat.shape[1])]) if self.bias else flat

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H_out, W_out) of an image of `size` (H, W)."""
        found = []
        for axis in (0, 1):
            reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            found.append((size[axis] + 2 * self.padding[axis] - reach) // self.stride[axis] + 1)
        return found[0], found[1]

    def num_columns(self, size: tuple[int, int]) -> int:
        """Columns that one image of `size` (H, W) gives."""
        rows, columns = self.output_size(size)
        return rows * columns


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _padding(layer: nn.Conv2d) -> tuple[int, int] | None:
    """The zeros on each side, or None where "same" needs more on one side than on the other."""
    if layer.padding == "valid":
        return 0, 0
    if layer.padding != "same":
        return _pair(layer.padding)  # type: ignore[arg-type]
    kernel, dilation = _pair(layer.kernel_size), _pair(layer.dilation)
    total = [dilation[axis] * (kernel[axis] - 1) for axis in (0, 1)]
    return None if any(zeros % 2 for zeros in total) else (total[0] // 2, total[1] // 2)
