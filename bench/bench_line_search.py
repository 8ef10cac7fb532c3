"""The line search behind a ReLU against plain PyTorch."""

import pytest
import torch
from baselines import compiled
from torch import Tensor

import fsc_ext

# Outputs of layers of ResNet-56 and VGG-16 on CIFAR-10, with 5 images of each class: C_out, R.
OUTPUTS = {"resnet56-16x32": (16, 51200), "resnet56-64x8": (64, 3200), "vgg16-512x2": (512, 200)}


def plain(output: Tensor, direction: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Two Newton steps without the safeguard of the halves."""
    steps = output.new_zeros(len(output))
    for _ in range(2):
        moved = torch.addcmul(output, steps[:, None], direction)
        active = moved > 0
        slant = direction * active
        slope = torch.linalg.vecdot(moved - target, slant)
        steps = steps - slope / torch.linalg.vecdot(slant, slant)
    output.addcmul_(steps[:, None], direction)
    difference = output.relu() - target
    losses = torch.linalg.vecdot(difference, difference)
    return steps, losses, difference * (output > 0)


@pytest.mark.parametrize("shape", OUTPUTS)
@pytest.mark.parametrize(
    "search",
    [fsc_ext.line_search_relu_, plain, compiled(plain)],
    ids=["fused", "plain", "compiled"],
)
def bench_line_search_relu(run, shape, search):
    output, direction, target = torch.randn(3, *OUTPUTS[shape])
    direction = -output.relu() * direction.abs()

    def search_anew() -> object:
        return search(output.clone(), direction, target)

    target.relu_()
    run(f"line_search_relu_ {shape}", search_anew)
