"""Autocast changes no operator: float32 stays float32, with the same bits."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fsc_ext
from fsc_ext.testing import devices


def changed(project: Callable[..., object], weight: Tensor, *arguments: int) -> list[Tensor]:
    """What an in-place operator writes, followed by what it returns."""
    weight = weight.clone()
    output = project(weight, *arguments)
    return [weight, output] if isinstance(output, Tensor) else [weight]


def absorb(weight: Tensor, vector: Tensor) -> list[Tensor]:
    matrix, shift = weight[:, :, 0, 0].T, vector[:4]  # [4, 6], [4]
    biases = [(None, None), (vector, None), (None, shift), (vector, shift)]
    return [
        output
        for bias, after in biases
        for output in fsc_ext.absorb_conv1x1(weight, bias, matrix, after)
    ]


def absorb_lists(weight: Tensor, vector: Tensor) -> list[Tensor]:
    matrix = weight[:, :, 0, 0].T  # [4, 6]
    lists = [weight, weight[:, :1]], [vector, None], [matrix, matrix + 1], [None, vector[:4]]
    weights, biases = fsc_ext.foreach_absorb_conv1x1(*lists)
    return [*weights, *biases]


def prox_lists(weight: Tensor, vector: Tensor) -> list[Tensor]:
    changed = [weight.clone(), vector.clone()]
    fsc_ext.foreach_prox_group_l2_(changed, [1.0, 0.1])
    return changed


def gram(images: Tensor) -> list[Tensor]:
    sums = [torch.zeros(4, 4, device=images.device) for _ in range(3)]
    fsc_ext.gram_accumulate_(*sums, images, images + 1)
    return sums


def cross_distill(images: Tensor, weight: Tensor, vector: Tensor) -> list[Tensor]:
    student = weight.clone().requires_grad_()
    loss = fsc_ext.cross_distill_layer(
        images, images + 1, weight + 1, student, vector, vector, alpha=0.9, beta=0.3
    )
    return [loss, *torch.autograd.grad(loss, student)]


def eliminate(weight: Tensor) -> list[Tensor]:
    matrix = weight.flatten(1).double()  # [6, 36]
    factor = torch.eye(36, dtype=torch.float64, device=weight.device) + 0.1 * matrix.T @ matrix
    return [*fsc_ext.elimination_order(matrix, torch.linalg.inv(factor)[None], 20)]


def search(weight: Tensor) -> list[Tensor]:
    output = weight.flatten(1).clone()
    return [output, *fsc_ext.line_search_relu_(output, -weight.flatten(1), output.relu() + 1)]


def adam_step(weight: Tensor) -> list[Tensor]:
    changed = [weight.clone(), *torch.zeros(2, *weight.shape, device=weight.device)]
    weight, *moments = changed
    fsc_ext.adam_prox_(weight, weight + 1, *moments, 1, lr=0.1, penalty="group_l2", amount=0.5)
    return changed


def sgd_step(weight: Tensor) -> list[Tensor]:
    changed = [weight.clone()]
    fsc_ext.sgd_prox_(*changed, weight + 1, lr=0.1, penalty="l1", amount=0.5)
    return changed


def steps_on_lists(weight: Tensor, vector: Tensor) -> list[Tensor]:
    changed = [weight.clone(), vector.clone()]
    moments = [[torch.zeros_like(tensor) for tensor in changed] for _ in range(2)]
    settings = {"lr": 0.1, "penalty": "group_l2", "amounts": [0.5, 0.1], "dim": 0}
    fsc_ext.foreach_adam_prox_(changed, [weight + 1, vector - 1], *moments, 1, **settings)
    fsc_ext.foreach_sgd_prox_(changed, [weight - 1, vector + 1], **settings)
    return [*changed, *moments[0], *moments[1]]


def fold_lists(weight: Tensor, vector: Tensor) -> list[Tensor]:
    vectors = [vector, vector - 1]
    lists = ([weight, weight[:, :1]], vectors, vectors, [v.exp() for v in vectors])
    weights, biases = fsc_ext.foreach_fuse_conv_bn(*lists, vectors, [vector, None], 1e-5)
    return [*weights, *biases]


def solve(weight: Tensor, images: Tensor | None = None) -> list[Tensor]:
    weight, schedule = weight.clone(), torch.full((3,), 0.01, dtype=torch.float64)
    if images is not None:
        target = torch.ones(2, 6, 4, 4, device=weight.device)
        return [weight, fsc_ext.solve_relu_(weight, images, target, schedule, schedule)]
    rows, hessian = weight.flatten(1), torch.eye(36, device=weight.device)  # [6, 36], [36, 36]
    return [weight, fsc_ext.solve_quadratic_(weight, hessian, rows.clone(), schedule, schedule)]


CALLS: dict[str, Callable[[Tensor, Tensor, Tensor], list[Tensor]]] = {
    "absorb_conv1x1": lambda x, w, v: absorb(w, v),
    "adam_prox_": lambda x, w, v: adam_step(w),
    "cross_distill_layer": cross_distill,
    "distill_residual": lambda x, w, v: [*fsc_ext.distill_residual(x, x + 1)],
    "elimination_order": lambda x, w, v: eliminate(w),
    "foreach_absorb_conv1x1": lambda x, w, v: absorb_lists(w, v),
    "foreach_adam_prox_": lambda x, w, v: steps_on_lists(w, v),
    "foreach_fuse_conv_bn": lambda x, w, v: fold_lists(w, v),
    "foreach_prox_group_l2_": lambda x, w, v: prox_lists(w, v),
    "foreach_sgd_prox_": lambda x, w, v: steps_on_lists(w, v),
    "fuse_conv_bn": lambda x, w, v: [*fsc_ext.fuse_conv_bn(w, v, v, v.exp(), v, v, 1e-5)],
    "gram_accumulate_": lambda x, w, v: gram(x),
    "keep_topk_": lambda x, w, v: changed(fsc_ext.keep_topk_, w, 7),
    "keep_topk_groups_": lambda x, w, v: changed(fsc_ext.keep_topk_groups_, w, 2),
    "line_search_relu_": lambda x, w, v: search(w),
    "prox_group_l2": lambda x, w, v: [fsc_ext.prox_group_l2(w, 1.0)],
    "prox_group_l2_": lambda x, w, v: changed(fsc_ext.prox_group_l2_, w, 1),
    "prox_l1": lambda x, w, v: [fsc_ext.prox_l1(w, 0.5)],
    "prox_l1_": lambda x, w, v: changed(fsc_ext.prox_l1_, w, 1),
    "prox_quantize": lambda x, w, v: [fsc_ext.prox_quantize(w, 2, 0.5)],
    "quantize_weight": lambda x, w, v: [fsc_ext.quantize_weight(w, 2)],
    "sgd_prox_": lambda x, w, v: sgd_step(w),
    "solve_quadratic_": lambda x, w, v: solve(w),
    "solve_relu_": lambda x, w, v: solve(w, x),
    "soft_cross_mix": lambda x, w, v: [*fsc_ext.soft_cross_mix(x, x + 1, 0.9, 0.3)],
}


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("name", [name for name in fsc_ext.__all__ if name != "build_info"])
def test_autocast_changes_nothing(device: torch.device, name: str) -> None:
    images, weight = torch.randn(2, 4, 6, 6, device=device), torch.randn(6, 4, 3, 3, device=device)
    vector = torch.randn(6, device=device)
    expected = CALLS[name](images, weight, vector)
    with torch.autocast(device.type, torch.bfloat16):
        found = CALLS[name](images, weight, vector)
    for actual, wanted in zip(found, expected, strict=True):
        assert actual.dtype == wanted.dtype and torch.equal(actual, wanted)
