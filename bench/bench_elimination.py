"""The order of optimal brain surgery against plain PyTorch."""

import pytest
import torch
from torch import Tensor

import fsc_ext

# Layers of ResNet-56: C_out, C_in kH kW.
LAYERS = {"resnet56-16": (16, 144), "resnet56-32": (32, 288)}


def plain_elimination_order(
    weight: Tensor, inverse: Tensor, removable: int
) -> tuple[Tensor, Tensor]:
    """All rows at once, on a stack of inverses that is updated in place."""
    count = torch.arange(len(weight), device=weight.device)
    weight, inverse = weight.clone(), inverse.repeat(len(weight), 1, 1)
    diagonal = inverse.diagonal(dim1=1, dim2=2)
    gone = torch.zeros_like(weight, dtype=torch.bool)
    gone[:, removable:] = True  # the last stay
    orders, rises = [], []
    for _ in range(removable):
        cost, index = (weight.square() / diagonal).masked_fill_(gone, torch.inf).min(1)
        column = inverse[count, index]  # [B, dim]
        pivot = diagonal[count, index, None]
        weight.addcmul_(weight[count, index, None] / pivot, column, value=-1)
        inverse.baddbmm_((column / pivot)[:, :, None], column[:, None], alpha=-1)
        gone[count, index] = True
        orders.append(index)
        rises.append(cost)
    return torch.stack(orders, 1), torch.stack(rises, 1)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    "order", [fsc_ext.elimination_order, plain_elimination_order], ids=["fused", "plain"]
)
def bench_elimination_order(run, layer, order):
    rows, dim = LAYERS[layer]
    factor = torch.randn(dim, 2 * dim, dtype=torch.float64)
    weight = torch.randn(rows, dim, dtype=torch.float64)
    inverse = torch.linalg.inv(factor @ factor.T)[None]
    run(f"elimination_order {layer}", order, weight, inverse, dim * 9 // 10)
