"""Steps of Adam with their proximal operators against fused Adam and plain operators."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import fsc_ext

# Weights of ResNet-56 and VGG-16: [C_out, C_in, kH, kW].
WEIGHTS = {
    "resnet56-16": (16, 16, 3, 3),
    "resnet56-64": (64, 64, 3, 3),
    "vgg16-512": (512, 512, 3, 3),
}
PENALTIES = {"l1": 1e-6, "group_l2": 1e-6, "topk": 0.5, "topk_groups": 0.5}


class Plain:
    """torch.optim's fused Adam, then vectorised PyTorch in place."""

    def __init__(self, weight: Tensor, grad: Tensor, penalty: str, amount: float) -> None:
        self.weight = weight.requires_grad_()
        weight.grad = grad
        self.adam = torch.optim.Adam([weight], lr=1e-6, fused=True)
        self.penalty, self.amount = penalty, amount

    @torch.no_grad()
    def step(self) -> None:
        self.adam.step()
        weight, amount = self.weight, self.amount
        if self.penalty == "l1":
            weight.copy_(torch.nn.functional.softshrink(weight, amount))
            return
        norms = torch.linalg.vector_norm(weight, dim=[0, 2, 3], keepdim=True)
        if self.penalty == "group_l2":
            weight.mul_((1 - amount / norms).clamp_min_(0))
            return
        measure = weight.abs() if self.penalty == "topk" else norms
        cut = measure.flatten().kthvalue(measure.numel() - int(amount)).values
        mask = measure > cut
        state = self.adam.state[weight]
        for values in (weight, state["exp_avg"], state["exp_avg_sq"]):
            values.mul_(mask)


@pytest.mark.parametrize("shape", WEIGHTS)
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("variant", ["fused", "plain"])
def bench_adam_prox_(run, shape, penalty, variant):
    weight, grad = torch.randn(2, *WEIGHTS[shape])
    amount, mask = PENALTIES[penalty], None
    if penalty.startswith("topk"):
        amount = float(int(amount * (weight.numel() if penalty == "topk" else weight.shape[1])))
        mask = torch.ones_like(weight, dtype=torch.bool)
    moments = torch.zeros(2, *weight.shape)
    plain = Plain(weight.clone(), grad, penalty, amount)

    def fused() -> None:
        fsc_ext.adam_prox_(
            weight, grad, *moments, 1, lr=1e-6, penalty=penalty, amount=amount, mask=mask
        )

    run(f"adam_prox_ {penalty} {shape}", fused if variant == "fused" else plain.step)


def resnet56_layers() -> list[tuple[int, ...]]:
    """The weights of the 54 3x3 layers behind the first one."""
    stages = [(16, 16), (32, 16), (64, 32)]
    return [
        (width, before if number == 0 else width, 3, 3)
        for width, before in stages
        for number in range(18)
    ]


def plain_foreach(lists: list[list[Tensor]], penalty: str, amount: float) -> Callable[[], None]:
    """torch's fused Adam for all tensors, then the proximal operator in vectorised PyTorch."""
    weights, numbers = lists[0], [torch.ones(()) for _ in lists[0]]
    settings = {"lr": 1e-6, "beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eps": 1e-8}
    flags = {"amsgrad": False, "maximize": False}

    def step() -> None:
        torch._fused_adam_(*lists, [], numbers, **settings, **flags)
        for weight in weights:
            if penalty == "l1":
                weight.copy_(torch.nn.functional.softshrink(weight, amount))
            else:
                norms = torch.linalg.vector_norm(weight, dim=[0, 2, 3], keepdim=True)
                weight.mul_((1 - amount / norms).clamp_min_(0))

    return step


@pytest.mark.parametrize("penalty", ["l1", "group_l2"])
@pytest.mark.parametrize("variant", ["fused", "loop", "plain"])
def bench_foreach_adam_prox_(run, penalty, variant):
    shapes, amount = resnet56_layers(), 1e-6
    lists = [[torch.randn(shape) for shape in shapes] for _ in range(2)]
    lists += [[torch.zeros(shape) for shape in shapes] for _ in range(2)]
    settings, amounts = {"lr": 1e-6, "penalty": penalty}, [amount] * len(shapes)

    def fused() -> None:
        fsc_ext.foreach_adam_prox_(*lists, 1, amounts=amounts, **settings)

    def loop() -> None:
        for tensors in zip(*lists, strict=True):
            fsc_ext.adam_prox_(*tensors, 1, amount=amount, **settings)

    variants = {"fused": fused, "loop": loop, "plain": plain_foreach(lists, penalty, amount)}
    run(f"foreach_adam_prox_ {penalty} resnet56", variants[variant])
