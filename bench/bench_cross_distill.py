"""Cross distillation operators against their reference and against tuned plain PyTorch."""

from collections.abc import Callable

import pytest
import torch
from baselines import compiled
from torch import Tensor

import fsc_ext
from fsc_ext import reference

# Layers of ResNet-56 and VGG-16 on CIFAR-10, with 5 images of each class: C_in, C_out, H = W.
LAYERS = {
    "resnet56-16x32": (16, 16, 32),
    "resnet56-64x8": (64, 64, 8),
    "vgg16-128x16": (128, 128, 16),
    "vgg16-512x2": (512, 512, 2),
}
BATCH = 50
ALPHA, BETA = 0.9, 0.3

layers = pytest.mark.parametrize("layer", LAYERS)


def plain_soft_cross_mix(
    input_teacher: Tensor, input_student: Tensor, alpha: float, beta: float
) -> tuple[Tensor, Tensor]:
    mixed_teacher = torch.lerp(input_student, input_teacher, alpha)
    return mixed_teacher, torch.lerp(input_teacher, input_student, beta)


def plain_distill_residual(preactivation: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    difference = preactivation.relu().sub_(target)
    loss = torch.linalg.vector_norm(difference).square()
    return loss, difference.mul_(preactivation > 0)


def plain_layer(
    input_teacher: Tensor,
    input_student: Tensor,
    weight_teacher: Tensor,
    weight_student: Tensor,
    *,
    alpha: float,
    beta: float,
    padding: int,
) -> Tensor:
    conv = torch.nn.functional.conv2d
    lerp = torch.lerp
    x_teacher = input_teacher if alpha == 1 else lerp(input_student, input_teacher, alpha)
    x_student = input_teacher if beta == 0 else lerp(input_teacher, input_student, beta)
    with torch.no_grad():
        target = conv(x_teacher, weight_teacher, padding=padding).relu_()
    output = conv(x_student, weight_student, padding=padding).relu_()
    return torch.nn.functional.mse_loss(output, target, reduction="sum") / len(output)


@layers
@pytest.mark.parametrize(
    "mix",
    [
        fsc_ext.soft_cross_mix,
        reference.soft_cross_mix,
        plain_soft_cross_mix,
        compiled(reference.soft_cross_mix),
    ],
    ids=["fused", "reference", "plain", "compiled"],
)
def bench_soft_cross_mix(run, layer, mix):
    channels, _, size = LAYERS[layer]
    teacher, student = torch.randn(2, BATCH, channels, size, size).relu()
    run(f"soft_cross_mix {layer}", mix, teacher, student, ALPHA, BETA)


@layers
@pytest.mark.parametrize(
    "residual",
    [
        fsc_ext.distill_residual,
        reference.distill_residual,
        plain_distill_residual,
        compiled(plain_distill_residual),
    ],
    ids=["fused", "reference", "plain", "compiled"],
)
def bench_distill_residual(run, layer, residual):
    _, channels, size = LAYERS[layer]
    preactivation, target = torch.randn(2, BATCH, channels, size, size)
    run(f"distill_residual {layer}", residual, preactivation, target.relu())


@layers
@pytest.mark.parametrize("share", [ALPHA, 1.0], ids=["soft", "correction"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "step"])
@pytest.mark.parametrize(
    "loss",
    [
        fsc_ext.cross_distill_layer,
        reference.cross_distill_layer,
        plain_layer,
        compiled(plain_layer),
    ],
    ids=["fused", "reference", "plain", "compiled"],
)
def bench_cross_distill_layer(
    run, layer: str, share: float, backward: bool, loss: Callable[..., Tensor]
):
    c_in, c_out, size = LAYERS[layer]
    inputs = torch.randn(2, BATCH, c_in, size, size).relu()
    weights = torch.randn(2, c_out, c_in, 3, 3) / (9 * c_in) ** 0.5
    student = weights[1].clone().requires_grad_(backward)
    settings = {"alpha": share, "beta": BETA if share < 1 else 0.0, "padding": 1}

    def step() -> Tensor | tuple[Tensor, ...]:
        value = loss(*inputs, weights[0], student, **settings)
        return torch.autograd.grad(value, student) if backward else value

    kind = "soft" if share < 1 else "correction"
    run(f"cross_distill_layer {layer} {kind} {'step' if backward else 'forward'}", step)
