"""Proximal operators and hard projections against their reference and against plain PyTorch."""

import pytest
import torch
from baselines import compiled
from torch import Tensor

import fsc_ext
from fsc_ext import reference

# Weights of ResNet-56 and VGG-16: [C_out, C_in, kH, kW].
WEIGHTS = {
    "resnet56-64": (64, 64, 3, 3),
    "vgg16-256": (256, 256, 3, 3),
    "vgg16-512": (512, 512, 3, 3),
}

weights = pytest.mark.parametrize("weight", WEIGHTS)


def fresh(name: str) -> Tensor:
    return torch.randn(WEIGHTS[name])


def plain_prox_group_l2(weight: Tensor, threshold: float, dim: int) -> Tensor:
    others = [d for d in range(weight.dim()) if d != dim]
    norm = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    return weight * (1 - threshold / norm).clamp_min_(0)


def plain_keep_topk(weight: Tensor, count: int) -> Tensor:
    magnitude = weight.abs()
    mask = magnitude > magnitude.flatten().kthvalue(weight.numel() - count).values
    weight.mul_(mask)
    return mask


def plain_keep_topk_groups(weight: Tensor, count: int, dim: int) -> Tensor:
    others = [d for d in range(weight.dim()) if d != dim]
    kept = torch.linalg.vector_norm(weight, dim=others).topk(count).indices
    mask = weight.new_zeros(weight.shape[dim], dtype=torch.bool)
    mask[kept] = True
    weight.mul_(mask.view([-1 if d == dim else 1 for d in range(weight.dim())]))
    return mask


@weights
@pytest.mark.parametrize(
    "prox",
    [fsc_ext.prox_l1, reference.prox_l1, fsc_ext.prox_l1_, compiled(reference.prox_l1)],
    ids=["fused", "reference", "in_place", "compiled"],
)
def bench_prox_l1(run, weight, prox):
    run(f"prox_l1 {weight}", prox, fresh(weight), 1e-6)


@weights
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize(
    "prox",
    [
        fsc_ext.prox_group_l2,
        reference.prox_group_l2,
        plain_prox_group_l2,
        fsc_ext.prox_group_l2_,
        compiled(plain_prox_group_l2),
    ],
    ids=["fused", "reference", "plain", "in_place", "compiled"],
)
def bench_prox_group_l2(run, weight, dim, prox):
    run(f"prox_group_l2 {weight} dim {dim}", prox, fresh(weight), 1e-6, dim)


@weights
@pytest.mark.parametrize(
    "keep",
    [fsc_ext.keep_topk_, reference.keep_topk, plain_keep_topk],
    ids=["fused", "reference", "plain"],
)
def bench_keep_topk(run, weight, keep):
    values = fresh(weight)
    run(f"keep_topk {weight}", lambda: keep(values.clone(), values.numel() // 2))


@weights
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize(
    "keep",
    [
        fsc_ext.keep_topk_groups_,
        reference.keep_topk_groups,
        plain_keep_topk_groups,
        compiled(plain_keep_topk_groups),
    ],
    ids=["fused", "reference", "plain", "compiled"],
)
def bench_keep_topk_groups(run, weight, dim, keep):
    values = fresh(weight)
    count = values.shape[dim] // 2
    run(f"keep_topk_groups {weight} dim {dim}", lambda: keep(values.clone(), count, dim))


# The 54 3x3 layers of ResNet-56 behind the first one.
RESNET56 = [(16, 16)] * 18 + [(32, 16)] + [(32, 32)] * 17 + [(64, 32)] + [(64, 64)] * 17


@pytest.mark.parametrize("variant", ["fused", "loop", "plain"])
def bench_foreach_prox_group_l2_(run, variant):
    layers = [torch.randn(*shape, 3, 3) for shape in RESNET56]
    thresholds = [1e-6] * len(layers)

    def fused() -> None:
        fsc_ext.foreach_prox_group_l2_(layers, thresholds, 1)

    def loop() -> None:
        for weight in layers:
            fsc_ext.prox_group_l2_(weight, 1e-6, 1)

    def plain() -> None:
        norms = [torch.linalg.vector_norm(w, dim=[0, 2, 3], keepdim=True) for w in layers]
        torch._foreach_reciprocal_(norms)
        torch._foreach_mul_(norms, -1e-6)
        torch._foreach_add_(norms, 1.0)
        torch._foreach_clamp_min_(norms, 0.0)
        torch._foreach_mul_(layers, norms)

    variants = {"fused": fused, "loop": loop, "plain": plain}
    run("foreach_prox_group_l2_ resnet56", variants[variant])
