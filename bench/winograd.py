"""Steps on 3x3 convolutions: fsc against good plain PyTorch, on layers of ResNets and VGGs.

python bench/winograd.py [--rounds 7]

Prints the table of docs/performance.md: one thread, process CPU time, medians of interleaved calls.
`solve_relu_` takes gradient steps with momentum and an L1 threshold on inputs and targets that
stay; plain PyTorch does the same in place, in channels-last or contiguous tensors, whichever is
faster. `cross_distill_layer` is forward and backward with mixed inputs (alpha 0.9, beta 0.3).
"""

import math
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.append(str(Path(__file__).parent / "helpers"))

import click
import torch
from bench_cross_distill import ALPHA, BETA, plain_layer
from in_turns import in_turns
from torch import Tensor
from torch.nn import functional

import fsc_ext

Shape = tuple[int, int, int, int]
SHAPES: list[Shape] = [  # images, channels in and out, height = width
    (50, 16, 16, 32), (50, 32, 32, 16), (50, 64, 64, 56), (50, 64, 64, 32), (50, 64, 128, 16),
    (50, 64, 64, 8), (50, 128, 128, 28), (50, 128, 128, 16), (50, 128, 256, 8),
    (50, 256, 256, 14), (50, 256, 256, 8), (50, 256, 512, 4), (50, 512, 512, 7),
    (50, 512, 512, 4), (50, 512, 512, 2), (10, 16, 16, 32), (10, 64, 64, 32), (10, 64, 64, 8),
    (10, 512, 512, 2), (100, 16, 16, 32), (100, 64, 64, 8), (100, 512, 512, 2),
]  # fmt: skip
STEPS, RATE, THRESHOLD, MOMENTUM = 10, 1e-4, 1e-6, 0.9
LAYOUTS = {"plain": torch.contiguous_format, "plain, channels last": torch.channels_last}


def plain_steps(weight: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """Gradient steps in place, everything that stays cached."""
    weight = weight.clone().requires_grad_()
    momentum = torch.zeros_like(weight)
    for _ in range(STEPS):
        output = functional.conv2d(x, weight, padding=1).relu_()
        loss = functional.mse_loss(output, target, reduction="sum") / len(x)
        (grad,) = torch.autograd.grad(loss, weight)
        with torch.no_grad():
            momentum.mul_(MOMENTUM).add_(grad)
            weight.sub_(momentum, alpha=RATE)
            weight.copy_(functional.softshrink(weight, RATE * THRESHOLD))
    return weight


def fused_steps(weight: Tensor, x: Tensor, target: Tensor) -> Tensor:
    """The same in one call."""
    one = torch.ones(STEPS, dtype=torch.float64)
    settings = {"optimizer": "sgd", "momentum": MOMENTUM, "penalty": "l1", "padding": 1}
    return fsc_ext.solve_relu_(weight.clone(), x, target, RATE * one, THRESHOLD * one, **settings)


def layer_step(layer: Callable[..., Tensor], inputs: Sequence[Tensor], weights: Tensor) -> Tensor:
    student = weights[1].clone().requires_grad_()
    loss = layer(*inputs, weights[0], student, alpha=ALPHA, beta=BETA, padding=1)
    return torch.autograd.grad(loss, student)[0]


def drawn(shape: Shape) -> tuple[Tensor, Tensor]:
    """Inputs of teacher and student, their weights."""
    images, channels, filters, size = shape
    inputs = torch.randn(2, images, channels, size, size).relu()
    return inputs, torch.randn(2, filters, channels, 3, 3) / (9 * channels) ** 0.5


def steps(shape: Shape) -> dict[str, Callable[[], object]]:
    """Gradient steps by version."""
    inputs, weights = drawn(shape)
    target = functional.conv2d(inputs[0], weights[0], padding=1).relu()
    calls = {"fused": partial(fused_steps, weights[1], inputs[1], target)}
    for name, layout in LAYOUTS.items():
        x, t = (tensor.contiguous(memory_format=layout) for tensor in (inputs[1], target))
        calls[name] = partial(plain_steps, weights[1], x, t)
    return calls


def layers(shape: Shape) -> dict[str, Callable[[], object]]:
    """A layer's forward and backward by version."""
    inputs, weights = drawn(shape)
    calls = {"fused": partial(layer_step, fsc_ext.cross_distill_layer, inputs, weights)}
    for name, layout in LAYOUTS.items():
        both = [each.contiguous(memory_format=layout) for each in inputs]
        calls[name] = partial(layer_step, plain_layer, both, weights)
    return calls


@click.command()
@click.option("--rounds", default=7, type=click.IntRange(min=1))
def main(rounds: int) -> None:
    """Print the table, row by row, and the geometric means of its ratios."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("| N, C_in, C_out, H=W | step, ms | plain ÷ fsc | layer, ms | plain ÷ fsc |")
    print("|---|---|---|---|---|", flush=True)
    ratios: list[list[float]] = [[], []]
    for shape in SHAPES:
        cells = [", ".join(map(str, shape))]
        for make, count, found in zip((steps, layers), (STEPS, 1), ratios, strict=True):
            spent = in_turns(make(shape), rounds)
            ours, *others = map(statistics.median, spent.values())
            found.append(min(others) / ours)
            cells += [f"{1e3 * ours / count:.3g}", f"{found[-1]:.2f}"]
        print(f"| {' | '.join(cells)} |", flush=True)
    means = [math.exp(statistics.mean(map(math.log, found))) for found in ratios]
    print(f"| geometric mean | | {means[0]:.2f} | | {means[1]:.2f} |")


if __name__ == "__main__":
    main()
