"""Convolutions that read their input on a few evenly spaced values."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fsc.networks.placing import put

MAX_BITS = 8


class QuantizedInputConv2d(nn.Conv2d):
    r"""A Conv2d that clips its input to [0, limit] and rounds it to 2^bits evenly spaced values.

    .. math:: Q(h) = \frac{s}{2^A - 1}
              \operatorname{round}\bigl( (2^A - 1) \min(\max(h / s, 0), 1) \bigr)

    Cross Distillation (Bai et al., 2020), appendix, "Quantization": activations bounded to [0, 1];
    s brings those of a pretrained layer there. The gradient is that of the straight-through
    estimator.

    Args:
        convolution: whose geometry, weight and bias are taken over, not copied.
        limit: s, above 0.
        bits: A, 1 to 8.
    """

    input_limit: Tensor
    input_bits: Tensor

    def __init__(self, convolution: nn.Conv2d, limit: float | Tensor, bits: int) -> None:
        """Puts itself in the place of a convolution."""
        super().__init__(
            convolution.in_channels,
            convolution.out_channels,
            convolution.kernel_size,  # type: ignore[arg-type]
            convolution.stride,  # type: ignore[arg-type]
            convolution.padding,  # type: ignore[arg-type]
            convolution.dilation,  # type: ignore[arg-type]
            convolution.groups,
            convolution.bias is not None,
            convolution.padding_mode,
            device="meta",
        )
        self.weight, self.bias = convolution.weight, convolution.bias
        self.train(convolution.training)
        self.largest = 2**bits - 1
        device = self.weight.device
        limit = torch.as_tensor(limit, dtype=torch.float32, device=device)
        self.register_buffer("input_limit", limit)
        self.register_buffer("input_bits", torch.tensor(bits, device=device))

    def quantized(self, features: Tensor) -> Tensor:
        """Q of features, any shape."""
        step = self.input_limit / self.largest
        if torch.compiler.is_exporting():  # it knows no shapes of the operator below: the same bits
            return (features * (1 / step)).round().clamp(0, self.largest) * step
        zero = torch.zeros((), dtype=torch.int32, device=features.device)
        return torch.fake_quantize_per_tensor_affine(features, step, zero, 0, self.largest)

    def forward(self, input: Tensor) -> Tensor:
        """Convolves the quantized input, [N, C_in, H, W] to [N, C_out, H', W']."""
        return super().forward(self.quantized(input))


def quantize_inputs(model: nn.Module, limits: Mapping[str, float], bits: int) -> None:
    """Make convolutions of a network read quantized inputs, in place.

    Args:
        model: the network.
        limits: name of each such convolution -> where its input is clipped.
        bits: of an input, 1 to 8.
    """
    for name, limit in limits.items():
        convolution = model.get_submodule(name)
        assert isinstance(convolution, nn.Conv2d)
        put(model, name, QuantizedInputConv2d(convolution, limit, bits))
