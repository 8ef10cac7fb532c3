"""Few-Sample Knowledge Distillation (Li et al., 2018): a 1x1 convolution a layer, then absorbed."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import fsc_ext
from fsc.channels.cutting import cut_channels, mask_channels
from fsc.channels.groups import rows_left
from fsc.layers.moments import ACCUMULATOR
from fsc.methods.base import LayerReport, Outcome, Task
from fsc.methods.l1_norm import largest_channels
from fsc.networks import surgery
from fsc.walking.walk import Layer, Visitor, walk


@dataclass(frozen=True)
class FSKD:
    """Filter pruning recovered by block coordinate descent on 1x1 convolutions.

    Lifecycle:
        1. rank channels by the L1 norm, fold every BatchNorm into its convolution, and mask the
           smallest in a copy of the teacher;
        2. walk teacher and student side by side; after each convolution, before its activation,
           solve Q = argmin || Q X_S - X_T ||_F^2 (Eq. 1) with X_T the teacher's kept channels;
        3. absorb Q into the convolution: W' = Q W, b' = Q b (Theorem 1), and walk on; grouped
           convolutions cannot absorb a Q that mixes their groups and stay as they are;
        4. repeat on randomly flipped images when `iterations` asks for it (Algorithm 1);
        5. cut the masked channels out.

    Args:
        iterations: passes of block coordinate descent; the paper sees no gain beyond 1.
        damping: pull of Q towards the identity, in units of the mean square of a student channel;
            the first layer of a network has fewer input dimensions than filters, so that Q is not
            determined without it.

    Raises:
        ValueError: a value is out of its range.
    """

    iterations: int = 1
    damping: float = 0.1

    def __post_init__(self) -> None:
        """Refuses values that no pass can use."""
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if not 0 < self.damping < math.inf:
            raise ValueError(f"damping must be finite and above 0, got {self.damping}")

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        kept = largest_channels(task.teacher, task.groups, task.channels_left())
        teacher = copy.deepcopy(task.teacher).eval()
        surgery.fold_batch_norm(teacher)
        student = copy.deepcopy(teacher)
        mask_channels(student, task.groups, kept)
        rows = rows_left(task.groups, kept)
        generator = torch.Generator().manual_seed(task.seed)
        images, reports = task.images, []
        for iteration in range(self.iterations):
            if iteration:
                images = _flip_randomly(task.images, generator)
            aligner = _Aligner(student, rows, self.damping)
            walk(
                teacher,
                student,
                images,
                aligner,
                batch_size=task.batch_size,
                memory_budget=task.memory_budget,
                progress=task.progress,
            )
            reports = aligner.reports
        cut_channels(student, task.groups, kept)
        return Outcome(student.eval(), kept, reports)


def _flip_randomly(images: Tensor, generator: torch.Generator) -> Tensor:
    flip = (torch.rand(len(images), generator=generator, device="cpu") < 0.5).to(images.device)
    return torch.where(flip[:, None, None, None], images.flip(3), images)


def align(gram_student: Tensor, gram_cross: Tensor, damping: float) -> Tensor:
    """The 1x1 convolution that takes the student's channels to the teacher's (FSKD, Eq. 1).

    Q = argmin || Q X_S - X_T ||_F^2 + delta || Q - I ||_F^2, delta = damping * mean diag(G_SS).

    Args:
        gram_student: X_S X_S^T, [C, C] float64.
        gram_cross: X_T X_S^T, [C, C] float64.
        damping: above 0.

    Returns:
        Q, [C, C].
    """
    delta = damping * (float(gram_student.diagonal().mean()) or 1.0)
    damped = gram_student.clone()
    damped.diagonal().add_(delta)
    target = gram_cross.clone()
    target.diagonal().add_(delta)
    return torch.cholesky_solve(target.T, torch.linalg.cholesky(damped)).T


class _Aligner(Visitor):
    """Aligns every ungrouped convolution of the student to the teacher's kept channels."""

    def __init__(self, student: nn.Module, rows: dict[str, Tensor], damping: float) -> None:
        self._names = {
            name
            for name, module in student.named_modules()
            if isinstance(module, nn.Conv2d) and module.groups == 1
        }
        self.rows = rows
        self.damping = damping
        self.reports: list[LayerReport] = []
        self._grams: tuple[Tensor, Tensor, Tensor] | None = None
        self._columns = 0

    def wants(self, name: str) -> bool:
        return name in self._names

    def on_outputs(self, layer: Layer, output_teacher: Tensor, output_student: Tensor) -> None:
        if layer.name in self.rows:
            rows = self.rows[layer.name]
            output_teacher, output_student = output_teacher[:, rows], output_student[:, rows]
        if self._grams is None:
            size = output_student.shape[1]
            zero = output_student.new_zeros(size, size, dtype=ACCUMULATOR)
            self._grams = (zero, zero.clone(), zero.clone())
            self._columns = 0
        fsc_ext.gram_accumulate_(*self._grams, output_student, output_teacher)
        self._columns += output_student[:, 0].numel()

    def after_run(self, layer: Layer) -> Callable[[Tensor], Tensor]:
        assert self._grams is not None and isinstance(layer.student, nn.Conv2d)
        start = time.perf_counter()
        student, cross, teacher = self._grams
        self._grams = None
        pointwise = align(student, cross, self.damping)
        self._remember(layer, pointwise, (student, cross, teacher), start)
        weight, bias = layer.student.weight, layer.student.bias
        every = torch.arange(len(weight), device=weight.device)
        rows = self.rows.get(layer.name, every).to(weight.device)
        pointwise = pointwise.to(weight.dtype)  # [rows, rows]
        absorbed = fsc_ext.absorb_conv1x1(
            weight[rows], None if bias is None else bias[rows], pointwise
        )
        weight[rows] = absorbed[0]
        if bias is not None:
            bias[rows] = absorbed[1]
        return lambda output: _aligned(output, rows, pointwise)

    def _remember(
        self, layer: Layer, pointwise: Tensor, grams: tuple[Tensor, Tensor, Tensor], start: float
    ) -> None:
        student, cross, teacher = grams

        def error(q: Tensor) -> float:
            return float((q @ student * q).sum() - 2 * (q * cross).sum() + teacher.trace())

        identity = torch.eye(len(student), dtype=ACCUMULATOR, device=student.device)
        before, after = error(identity), error(pointwise)
        scale = float(teacher.trace())
        images = layer.num_images
        self.reports.append(
            LayerReport(
                layer.name,
                self._columns,
                before / images,
                after / images,
                after / scale if scale else 0.0,
                time.perf_counter() - start,
            )
        )


def _aligned(output: Tensor, rows: Tensor, pointwise: Tensor) -> Tensor:
    """The output of a layer, [N, C_out, H, W], once Q has been absorbed by some of its rows."""
    changed = output.clone()
    changed[:, rows] = nn.functional.conv2d(output[:, rows], pointwise[:, :, None, None])
    return changed
