"""Few-Sample Knowledge Distillation (Li et al., 2018): a 1x1 convolution a layer, then absorbed."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fsc import ranks
from fsc.channels.cutting import cut_channels, mask_channels
from fsc.channels.groups import rows_left
from fsc.images.augmentation import mirrored
from fsc.methods.aligner import Aligner
from fsc.methods.base import Outcome, Task
from fsc.methods.l1_norm import largest_channels
from fsc.networks import surgery
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
            determined without it. 0: what the images do not determine stays as it is.
        intercept: whether Q has a bias where its layer has one, so that b' = Q b + b_Q.

    Raises:
        ValueError: a value is out of its range.
    """

    iterations: int = 1
    damping: float = 0.1
    intercept: bool = False

    def __post_init__(self) -> None:
        """Refuses values that no pass can use."""
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if not 0 <= self.damping < math.inf:
            raise ValueError(f"damping must be finite and at least 0, got {self.damping}")

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
            aligner = Aligner(student, rows, self.damping, len(images), intercept=self.intercept)
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
