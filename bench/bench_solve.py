"""The fused loops against good loops in plain PyTorch: 20 steps, everything that stays cached."""

import pytest
import torch
from baselines import compiled
from torch import Tensor
from torch.nn import functional

import fsc_ext

STEPS = 20
# Layers of ResNet-56 and VGG-16 on CIFAR-10 with 5 images of each class: channels and size.
LAYERS = {"resnet56-16x32": (16, 32), "resnet56-64x8": (64, 8), "vgg16-512x2": (512, 2)}
layers = pytest.mark.parametrize("layer", LAYERS)


def schedule(count: int) -> tuple[Tensor, Tensor]:
    ones = torch.ones(STEPS, dtype=torch.float64, device="cpu")
    return 1e-3 * ones, float(count) * ones


def project(weight: Tensor, state: dict[str, Tensor], count: int) -> Tensor:
    """The released code's projection on input channels, vectorised."""
    norms = torch.linalg.vector_norm(weight, dim=[0, 2, 3], keepdim=True)
    mask = norms > norms.flatten().kthvalue(norms.numel() - count).values
    for values in (weight, state["exp_avg"], state["exp_avg_sq"]):
        values.mul_(mask)
    return mask


def plain_quadratic(weight: Tensor, hessian: Tensor, target: Tensor, count: int) -> Tensor:
    weight = weight.clone().requires_grad_()
    adam, mask = torch.optim.Adam([weight], lr=1e-3, fused=True), None
    product = torch.empty_like(target)
    with torch.no_grad():
        for _ in range(STEPS):
            torch.mm(weight.flatten(1), hessian, out=product)
            product.sub_(target).mul_(2)
            weight.grad = (
                product.view_as(weight) if mask is None else product.view_as(weight) * mask
            )
            adam.step()
            mask = project(weight, adam.state[weight], count)
    return weight


def layer_loss(weight: Tensor, x: Tensor, target: Tensor) -> Tensor:
    return (functional.conv2d(x, weight, padding=1).relu() - target).square().sum() / len(x)


def plain_relu(weight: Tensor, x: Tensor, target: Tensor, count: int, loss=layer_loss) -> Tensor:
    weight = weight.clone().requires_grad_()
    adam, mask = torch.optim.Adam([weight], lr=1e-3, fused=True), None
    for _ in range(STEPS):
        (grad,) = torch.autograd.grad(loss(weight, x, target), weight)
        weight.grad = grad if mask is None else grad * mask
        adam.step()
        with torch.no_grad():
            mask = project(weight, adam.state[weight], count)
    return weight


@layers
@pytest.mark.parametrize("variant", ["fused", "plain"])
def bench_solve_quadratic_(run, layer, variant):
    channels, _ = LAYERS[layer]
    weight, columns = torch.randn(channels, channels, 3, 3), torch.randn(9 * channels, 3000)
    hessian = columns @ columns.T / 3000
    target, count = weight.flatten(1) @ hessian, channels // 2

    def fused() -> Tensor:
        return fsc_ext.solve_quadratic_(
            weight.clone(), hessian, target, *schedule(count), penalty="topk_groups"
        )

    def plain() -> Tensor:
        return plain_quadratic(weight, hessian, target, count)

    run(f"solve_quadratic_ {layer}", fused if variant == "fused" else plain)


@layers
@pytest.mark.parametrize("variant", ["fused", "plain", "compiled"])
def bench_solve_relu_(run, layer, variant):
    channels, size = LAYERS[layer]
    weight, x = torch.randn(channels, channels, 3, 3) / 9, torch.randn(50, channels, size, size)
    target = functional.conv2d(x, weight, padding=1).relu()
    count, loss = channels // 2, compiled(layer_loss) if variant == "compiled" else layer_loss

    def fused() -> Tensor:
        return fsc_ext.solve_relu_(
            weight.clone(), x, target, *schedule(count), padding=1, penalty="topk_groups"
        )

    def plain() -> Tensor:
        return plain_relu(weight, x, target, count, loss)

    run(f"solve_relu_ {layer}", fused if variant == "fused" else plain)
