"""Few-Sample Knowledge Distillation (Li et al., 2018): a 1x1 convolution a layer, then absorbed."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import fsc_ext
from fsc import ranks
from fsc.channels.cutting import cut_channels, mask_channels
from fsc.channels.groups import rows_left
from fsc.images.augmentation import mirrored
from fsc.layers.form import Form
from fsc.layers.moments import ACCUMULATOR
from fsc.methods.base import LayerReport, Outcome, Task
from fsc.methods.l1_norm import largest_channels
from fsc.methods.recalibration import ChannelStatistics, is_flat, renormalise, running_norms
from fsc.networks import surgery
from fsc.networks.operations import CONVOLUTION, LAYER_OR_NORM
from fsc.walking.visitor import Layer, Visitor
from fsc.walking.walk import walk


@dataclass(frozen=True)
class FSKD:
    """Filter pruning recovered by block coordinate descent on 1x1 convolutions.

    Lifecycle:
        1. rank channels by the L1 norm, fold every BatchNorm into its convolution, and mask the
           smallest in a copy of the teacher;
        2. walk teacher and student side by side; after each convolution, before its activation,
           solve Q = argmin || Q X_S - X_T ||_F^2 (Eq. 1) with X_T the teacher's kept channels;
        3. absorb Q into the convolution: W' = Q W, b' = Q b (Theorem 1), and walk on. Q stands
           where a layer ends that mixes channels: in blocks behind a grouped convolution, and
           behind the pointwise one that follows a depthwise one. A BatchNorm that stands before a
           convolution has its statistics taken anew;
        4. repeat on randomly flipped images when `iterations` asks for it (Algorithm 1); signals
           and several inputs are not flipped;
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
            aligner = _Aligner(student, rows, self.damping, len(images))
            walk(
                teacher,
                student,
                ranks.share(images),
                aligner,
                batch_size=task.batch_size,
                memory_budget=task.memory_budget,
                progress=task.progress,
            )
            reports = aligner.reports
        cut_channels(student, task.groups, kept)
        return Outcome(student.eval(), kept, reports)


def _flip_randomly(images: Tensor, generator: torch.Generator) -> Tensor:
    mirror = mirrored(images)
    if mirror is None:
        return images
    flip = (torch.rand(len(images), generator=generator, device="cpu") < 0.5).to(images.device)
    return torch.where(flip.view(-1, *[1] * (images.ndim - 1)), mirror, images)


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
    """Aligns what every mixing layer of the student gives to the teacher's kept channels.

    A grouped convolution mixes within its groups, so its Q has a block a group. A depthwise one
    mixes nothing: it makes one block with the layer behind it, and Q stands where that ends. A
    Linear that sees one column an image has too few of them for a Q.
    """

    kind = LAYER_OR_NORM

    def __init__(
        self, student: nn.Module, rows: dict[str, Tensor], damping: float, num_images: int
    ) -> None:
        modules = dict(student.named_modules())
        self._names = {name for name, module in modules.items() if _mixes(module)}
        self._norms = running_norms(student)
        self.rows = rows
        self.damping = damping
        self.num_images = num_images  # of all ranks
        self.reports: list[LayerReport] = []
        self._grams: list[tuple[Tensor, Tensor, Tensor]] = []  # of every group
        self._statistics: ChannelStatistics | None = None
        self._columns = 0

    def wants(self, name: str) -> bool:
        return name in self._names or name in self._norms

    def on_inputs(self, layer: Layer, input_teacher: Tensor, input_student: Tensor) -> None:
        if layer.name in self._norms:
            if self._statistics is None:
                self._statistics = ChannelStatistics(input_student.device)
            self._statistics.accumulate(input_teacher, input_student)

    def before_run(self, layer: Layer) -> None:
        if self._statistics is not None:
            renormalise(layer.student, self._statistics)
            self._statistics = None

    def on_outputs(self, layer: Layer, output_teacher: Tensor, output_student: Tensor) -> None:
        if layer.name in self._norms or is_flat(layer, output_student):
            return
        rows = self._rows_of(layer)  # [groups, rows]
        if not self._grams:
            shape = (rows.shape[1], rows.shape[1])
            zero = output_student.new_zeros(shape, dtype=ACCUMULATOR)
            self._grams = [(zero.clone(), zero.clone(), zero.clone()) for _ in rows]
            self._columns = 0
        teacher, student = (_as_image(layer, side) for side in (output_teacher, output_student))
        for grams, own in zip(self._grams, rows, strict=True):
            fsc_ext.gram_accumulate_(*grams, student[:, own], teacher[:, own])
        self._columns += student[:, 0].numel()

    def after_run(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        if not self._grams:
            return None
        start = time.perf_counter()
        grams, self._grams = self._grams, []
        ranks.add_up(*(each for own in grams for each in own))
        pointwise = self._pointwise(grams)
        self._remember(layer, pointwise, grams, start)
        rows = self._rows_of(layer)
        student: Any = layer.student
        factors = torch.stack(pointwise).to(student.weight.dtype)  # [groups, rows, rows]
        _absorb(student, rows, factors)
        return lambda output: _aligned(layer, output, rows, factors)

    def _pointwise(self, grams: list[tuple[Tensor, Tensor, Tensor]]) -> list[Tensor]:
        """Q of every group, [rows, rows] each."""

        def aligned() -> list[Tensor]:
            return [align(student, cross, self.damping) for student, cross, _ in grams]

        if ranks.count() == 1:
            return aligned()
        found = ranks.first(lambda: [each.cpu() for each in aligned()])
        return [each.to(grams[0][0].device) for each in found]

    def _rows_of(self, layer: Layer) -> Tensor:
        """The output channels that are aligned, [groups, rows]."""
        weight: Any = layer.student.weight
        size = getattr(layer.student, "out_channels", len(weight))
        every = torch.arange(size, device=weight.device)
        rows = self.rows.get(layer.name, every).to(weight.device)
        return rows.view(getattr(layer.student, "groups", 1), -1)

    def _remember(
        self,
        layer: Layer,
        pointwise: list[Tensor],
        grams: list[tuple[Tensor, Tensor, Tensor]],
        start: float,
    ) -> None:
        def error(factors: list[Tensor]) -> float:
            return sum(
                float((q @ student * q).sum() - 2 * (q * cross).sum() + teacher.trace())
                for q, (student, cross, teacher) in zip(factors, grams, strict=True)
            )

        before = error([torch.eye(len(q), dtype=ACCUMULATOR, device=q.device) for q in pointwise])
        after = error(pointwise)
        scale = sum(float(teacher.trace()) for _, _, teacher in grams)
        images = self.num_images
        self.reports.append(
            LayerReport(
                layer.name,
                ranks.total(self._columns),
                before / images,
                after / images,
                after / scale if scale else 0.0,
                time.perf_counter() - start,
            )
        )


def _mixes(module: nn.Module) -> bool:
    """Whether a layer mixes channels, so that it can absorb what mixes them once more."""
    if isinstance(module, nn.Linear):
        return True
    if not isinstance(module, CONVOLUTION):
        return False
    return module.groups == 1 or module.groups < module.in_channels


def _absorb(layer: Any, rows: Tensor, factors: Tensor) -> None:
    """Writes Q [groups, rows, rows] into the rows [groups, rows] of a layer that it mixes."""
    form = Form(layer)
    weight, bias = form.convolution.weight.detach().clone(), layer.bias
    for own, pointwise in zip(rows, factors, strict=True):
        absorbed = fsc_ext.absorb_conv1x1(
            weight[own], None if bias is None else bias[own], pointwise
        )
        weight[own] = absorbed[0]
        if bias is not None:
            bias[own] = absorbed[1]
    layer.weight.copy_(form.weight(weight))


def _as_image(layer: Layer, output: Tensor) -> Tensor:
    """What a layer gives, [N, C_out, ...] or [N, ..., C_out], as [N, C_out, H, W]."""
    if isinstance(layer.student, nn.Linear):
        return output.flatten(1, -2).movedim(-1, 1)[..., None]
    return output if output.ndim == 4 else output.flatten(2)[..., None]


def _aligned(layer: Layer, output: Tensor, rows: Tensor, factors: Tensor) -> Tensor:
    """The output of a layer once Q has been absorbed by some of its rows."""
    image, flat = _as_image(layer, output), rows.flatten()
    changed = image.clone()
    kernel = factors.flatten(0, 1)[:, :, None, None]  # [groups rows, rows, 1, 1]
    changed[:, flat] = nn.functional.conv2d(image[:, flat], kernel, groups=len(rows))
    if isinstance(layer.student, nn.Linear):
        changed = changed[..., 0].movedim(1, -1)
    return changed.reshape(output.shape)
