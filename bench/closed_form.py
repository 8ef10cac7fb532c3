"""The closed form against the loop of the released code, layer by layer through VGG-16.

FSC_DATA=... python bench/closed_form.py [damping in images]

VGG-50%, K = 5 images a class, soft loss. Every layer is solved twice from the same inputs, those of
the student that the closed form has made so far: in closed form, and by 3000 Adam steps with hard
projections (the released code's schedule, on moments or on images, whichever is faster). Losses are
relative to the energy of the teacher's output. One thread, float32, seconds of process CPU time,
those of gathering the inputs left out on both sides.
"""

import copy
import os
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

import fsc
from fsc import models, schemes
from fsc.channels.proof import channel_groups
from fsc.images import data, sampling
from fsc.layers.layer_problem import Pose, Solution
from fsc.layers.proximal_problem import ProximalProblem
from fsc.methods.base import Task
from fsc.methods.layer_solver import LayerSolver, Settings
from fsc.networks import surgery
from fsc.networks.pretrained import load_pretrained
from fsc.solvers.closed_form import ClosedForm
from fsc.solvers.proximal import Proximal
from fsc.walking.visitor import Layer
from fsc.walking.walk import walk

LOOP = Proximal(3000, learning_rate=5e-4)


class Beside(LayerSolver):
    """Cross distillation in closed form that also runs the loop on every layer."""

    loop: ProximalProblem | None = None

    def on_inputs(self, layer: Layer, input_teacher: Tensor, input_student: Tensor) -> None:
        super().on_inputs(layer, input_teacher, input_student)
        if self.loop is None:
            pose = Pose(layer.teacher, self.settings.objective, "none", self._columns)
            self.loop = ProximalProblem(pose, LOOP, None)
        self.loop.accumulate(input_teacher, input_student, None)

    def before_run(self, layer: Layer) -> None:
        assert self.loop is not None
        plan = self.plans.plan(layer.name, layer.student)
        begin = time.process_time()
        released = self.loop.solve(plan)
        loop_seconds = time.process_time() - begin
        self.loop = None
        begin = time.process_time()
        super().before_run(layer)
        seconds = time.process_time() - begin
        mine, theirs = self.reports[-1].relative_error, _relative(released)
        print(
            f"| {layer.name} | {mine:.3g} | {seconds:.2f} | {theirs:.3g} | {loop_seconds:.1f} "
            f"| {mine / theirs:.2f} |",
            flush=True,
        )


def _relative(solution: Solution) -> float:
    return solution.error / solution.error_of_zero


def main(damping: float) -> None:
    """Prints one row a layer."""
    torch.set_num_threads(1)
    root = Path(os.environ["FSC_DATA"])
    file = root / "checkpoints" / "cifar10_vgg16.pt"
    teacher = load_pretrained(models.build("vgg16"), file)
    train = data.load("cifar10", "train", root)
    chosen = sampling.sample_per_class(train.labels, 5, 0).indices
    images = data.to_tensor(train.images[chosen], *models.normalization("vgg16"))
    surgery.fold_batch_norm(teacher)
    solver = ClosedForm(damping=damping)
    settings = Settings(fsc.Soft(0.9, 0.3), solver, "none", "input_channels", True)
    groups = channel_groups(teacher, images[:1])
    task = Task(teacher, images, schemes.named("vgg-50", "vgg16"), groups=groups)
    visitor = Beside(settings, task, teacher)
    print("| layer | closed form: loss | CPU s | 3000 steps: loss | CPU s | ratio of losses |")
    print("|---|---|---|---|---|---|")
    walk(teacher, copy.deepcopy(teacher), images, visitor)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.5)
