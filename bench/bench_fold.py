"""fuse_conv_bn and absorb_conv1x1 at real layer shapes against PyTorch's own ways."""

from typing import Any

import pytest
import torch
from baselines import compiled
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_weights

import fsc_ext
from fsc_ext import reference

SHAPES = [(16, 16, 3, 3), (64, 64, 3, 3), (256, 256, 3, 3), (512, 512, 3, 3)]
SHAPE_IDS = ["x".join(map(str, shape)) for shape in SHAPES]


def torch_fuse(
    weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor, gain: Tensor, shift: Tensor, eps: float
) -> Any:
    return fuse_conv_bn_weights(weight, bias, mean, var, eps, gain, shift)


def plain_absorb(weight: Tensor, bias: Tensor, matrix: Tensor, matrix_bias: Tensor) -> Any:
    return (matrix @ weight.flatten(1)).view(-1, *weight.shape[1:]), matrix @ bias + matrix_bias


@pytest.mark.parametrize(
    "variant",
    [fsc_ext.fuse_conv_bn, torch_fuse, reference.fuse_conv_bn, compiled(reference.fuse_conv_bn)],
    ids=["fused", "torch", "reference", "compiled"],
)
@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
def bench_fuse_conv_bn(run: Any, shape: tuple[int, ...], variant: Any) -> None:
    vectors = [torch.rand(shape[0]) + 0.5 for _ in range(5)]
    run(f"fuse_conv_bn {shape}", variant, torch.randn(shape), *vectors, 1e-5)


@pytest.mark.parametrize(
    "variant",
    [fsc_ext.absorb_conv1x1, plain_absorb, reference.absorb_conv1x1, compiled(plain_absorb)],
    ids=["fused", "plain", "reference", "compiled"],
)
@pytest.mark.parametrize("shape", SHAPES, ids=SHAPE_IDS)
def bench_absorb_conv1x1(run: Any, shape: tuple[int, ...], variant: Any) -> None:
    channels = shape[0]
    arguments = (torch.randn(channels), torch.randn(channels, channels), torch.randn(channels))
    run(f"absorb_conv1x1 {shape}", variant, torch.randn(shape), *arguments)


@pytest.mark.parametrize("variant", ["fused", "loop", "plain"])
def bench_foreach_absorb_conv1x1(run: Any, variant: str) -> None:
    widths = [16] * 18 + [32] * 18 + [64] * 18
    weights = [torch.randn(width, width, 3, 3) for width in widths]
    biases, shifts = ([torch.randn(width) for width in widths] for _ in range(2))
    lists = weights, biases, [torch.randn(width, width) for width in widths], shifts

    def fused() -> None:
        fsc_ext.foreach_absorb_conv1x1(*lists)

    def loop() -> None:
        for layer in zip(*lists, strict=True):
            fsc_ext.absorb_conv1x1(*layer)

    def plain() -> None:
        for layer in zip(*lists, strict=True):
            plain_absorb(*layer)

    variants = {"fused": fused, "loop": loop, "plain": plain}
    run("foreach_absorb_conv1x1 resnet56", variants[variant])
