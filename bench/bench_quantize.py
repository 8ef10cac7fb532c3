"""Projection on quantized weights against plain PyTorch."""

import pytest
import torch
from baselines import compiled
from torch import Tensor

import fsc_ext

# Weights of ResNet-56 and VGG-16: [C_out, C_in, kH, kW].
WEIGHTS = {"resnet56-64": (64, 64, 3, 3), "vgg16-512": (512, 512, 3, 3)}


def plain(weight: Tensor, bits: int) -> Tensor:
    rows = weight.flatten(1)
    deviation, mean = torch.std_mean(rows, 1, correction=0, keepdim=True)
    low, high = rows.aminmax(dim=1, keepdim=True)
    low, high = (
        torch.maximum(low, mean - 3 * deviation),
        torch.minimum(high, mean + 3 * deviation),
    )
    step = (high - low) / (2**bits - 1)
    return (low + step * ((rows.clamp(low, high) - low) / step).round()).view_as(weight)


@pytest.mark.parametrize("shape", WEIGHTS)
@pytest.mark.parametrize(
    "quantize",
    [fsc_ext.quantize_weight, plain, compiled(plain)],
    ids=["fused", "plain", "compiled"],
)
def bench_quantize_weight(run, shape, quantize):
    run(f"quantize_weight {shape}", quantize, torch.randn(WEIGHTS[shape]), 2)
