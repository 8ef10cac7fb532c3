"""Conjugate gradients behind the ReLU against 3000 Adam steps, on real layers.

FSC_DATA=... python bench/accelerated.py [resnet56|vgg16]

Each layer stands where cross distillation meets it: K = 5 images a class, soft loss, the layers
before it already compressed, half of its input channels kept. Both solvers see the same channels,
inputs and targets, in float32; the targets are computed once, the dead channels are cut out. Adam
starts from the teacher's weight and bias. The time of conjugate gradients has the moments, the
start and the preconditioner in it. One thread, process CPU time.
"""

import copy
import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

import fsc
import fsc_ext
from fsc import models, schemes
from fsc.channels.proof import channel_groups
from fsc.images import data, sampling
from fsc.layers.layer_problem import to_matrix
from fsc.layers.moments import Moments
from fsc.methods.base import Task
from fsc.methods.layer_solver import LayerSolver, Settings
from fsc.networks import surgery
from fsc.networks.pretrained import load_pretrained
from fsc.solvers.accelerated import ReluProblem, conjugate_gradient_relu
from fsc.solvers.closed_form import ClosedForm, rows_of, solve_on_rows
from fsc.solvers.patch import Patch
from fsc.walking.visitor import Layer
from fsc.walking.walk import walk

LAYERS = {
    "resnet56": (
        "res-50",
        fsc.Soft(0.9, 0.5),
        [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3) for block in (1, 3, 4, 5, 7)],
        "cifar10_resnet56_akamaster.pt",
    ),
    "vgg16": (
        "vgg-50",
        fsc.Soft(0.9, 0.3),
        [f"features.{index}" for index in (3, 7, 10, 14, 17, 20, 27)],
        "cifar10_vgg16.pt",
    ),
}
STEPS = 3000
LEARNING_RATES = (1e-3, 3e-3)
# In images: hardly any, for the lowest loss on the images given and not the best network.
START_DAMPING = 0.001


class Recorder(LayerSolver):
    """Cross distillation that keeps what some layers were solved from."""

    names: list[str]

    def __init__(self, names: list[str], *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.names = names
        self.inputs: dict[str, tuple[Layer, Tensor, Tensor]] = {}

    def on_inputs(self, layer: Layer, input_teacher: Tensor, input_student: Tensor) -> None:
        if layer.name in self.names:
            self.inputs[layer.name] = (layer, input_teacher, input_student)
        super().on_inputs(layer, input_teacher, input_student)


def record(model_name: str) -> dict[str, tuple[Layer, Tensor, Tensor]]:
    """The layers and their inputs in teacher and student."""
    scheme_name, objective, names, file = LAYERS[model_name]
    root = Path(os.environ["FSC_DATA"])
    teacher = load_pretrained(models.build(model_name), root / "checkpoints" / file)
    train = data.load("cifar10", "train", root)
    chosen = sampling.sample_per_class(train.labels, 5, 0).indices
    images = data.to_tensor(train.images[chosen], *models.normalization(model_name))
    surgery.fold_batch_norm(teacher)
    settings = Settings(objective, ClosedForm(), "none", "input_channels", True)
    scheme = schemes.named(scheme_name, model_name)
    task = Task(teacher, images, scheme, groups=channel_groups(teacher, images[:1]))
    recorder = Recorder(names, settings, task, teacher)
    walk(teacher, copy.deepcopy(teacher), images, recorder)
    return recorder.inputs


def adam(layer: nn.Conv2d, images: Tensor, target: Tensor, kept: Tensor, rate: float) -> float:
    """The loss after 3000 steps on the kept channels."""
    weight = layer.weight.detach()[:, kept].clone().requires_grad_()
    bias = layer.bias.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([weight, bias], lr=rate, fused=True)
    size = target[0].numel()

    def loss() -> Tensor:
        output = nn.functional.conv2d(images, weight, bias, layer.stride, layer.padding)
        return nn.functional.mse_loss(output.relu_(), target)

    for _ in range(STEPS):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    with torch.no_grad():
        return float(loss()) * size


def accelerated(
    layer: nn.Conv2d, mixed: tuple[Tensor, Tensor], kept: Tensor, goal: float
) -> tuple[int, float, float]:
    """Steps and CPU seconds until the goal is reached, and the loss after 100 steps."""
    start_time = time.process_time()
    patch, teacher = Patch.of(layer), to_matrix(layer)
    moments = Moments(patch)
    moments.accumulate(*mixed)
    rows = rows_of(kept, patch)
    # The inputs are mixed already: each network sees its own.
    quadratic = moments.quadratic(fsc.Estimation(), teacher)
    start = solve_on_rows(quadratic, teacher, rows, START_DAMPING).float()
    target = (teacher.float() @ patch.columns(mixed[0])).relu_()
    problem = ReluProblem(patch.columns(mixed[1]), target, None, len(mixed[0]))
    reached: list[tuple[int, float]] = []
    losses: list[float] = []

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        if loss <= goal and not reached:
            reached.append((step, time.process_time() - start_time))

    conjugate_gradient_relu(problem, start, rows, steps=100, tolerance=0, on_step=on_step)
    steps, seconds = reached[0] if reached else (-1, float("nan"))
    return steps, seconds, losses[-1]


def main(model_name: str) -> None:
    """Prints one row a layer."""
    torch.set_num_threads(1)
    objective = LAYERS[model_name][1]
    print(
        "| layer | C_in→C_out, H | 3000 Adam steps: loss (lr) | CPU s | CG steps to it | CPU s "
        "| ratio | CG loss at 100 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name, (layer, input_teacher, input_student) in record(model_name).items():
        conv = layer.teacher
        assert isinstance(conv, nn.Conv2d)
        kept = torch.arange(0, conv.in_channels, 2)
        mixed = fsc_ext.soft_cross_mix(
            input_teacher, input_student, objective.alpha, objective.beta
        )
        with torch.no_grad():
            target = conv(mixed[0]).relu_()
        images = mixed[1][:, kept].contiguous()
        runs = []
        for rate in LEARNING_RATES:
            begin = time.process_time()
            loss = adam(conv, images, target, kept, rate)
            runs.append((loss, rate, time.process_time() - begin))
        best, rate, adam_seconds = min(runs)
        with torch.no_grad():
            steps, seconds, last = accelerated(conv, mixed, kept, best)
        print(
            f"| {name} | {conv.in_channels}→{conv.out_channels}, {target.shape[2]} "
            f"| {best:.4g} ({rate:g}) | {adam_seconds:.1f} | {steps} | {seconds:.2f} "
            f"| {adam_seconds / seconds:.0f} | {last:.4g} |",
            flush=True,
        )


if __name__ == "__main__":
    for model in sys.argv[1:] or LAYERS:
        main(model)
