"""Few-Sample Knowledge Distillation (Li et al., 2018): a 1x1 convolution a layer, then absorbed."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.arguments import check_fields
from fsc.channels.cutting import mask_channels
from fsc.channels.groups import rows_left
from fsc.images.augmentation import enough, filled_up, randomly_mirrored
from fsc.methods import any_aligned
from fsc.methods.aligner import Aligner
from fsc.methods.base import WITHOUT_CHANNELS, LayerReport, Outcome, Task
from fsc.methods.joint_alignment import JointSGD
from fsc.methods.l1_norm import without_the_rest
from fsc.methods.opening import AnyBlocks, Channels
from fsc.networks.gathering import Images
from fsc.networks.joint_input import joint_of
from fsc.progress import Progress, telling
from fsc.schemes.reasons import commonest
from fsc.walking.walk import walk
from fsc.wording import shown


@dataclass(frozen=True)
class FSKD:
    """Filter pruning recovered by block coordinate descent on 1x1 convolutions.

    Lifecycle:
        1. rank channels by the L1 norm, cut the smallest out of a copy of the teacher, and fold
           every BatchNorm into its convolution;
        2. walk teacher and student side by side; after each convolution, before its activation,
           solve Q = argmin || Q X_S - X_T ||_F^2 (Eq. 1) with X_T the teacher's kept channels;
        3. absorb Q into the convolution: W' = Q W, b' = Q b (Theorem 1), and walk on. Q stands
           where a layer ends that mixes channels: in blocks behind a grouped convolution, and
           behind the pointwise one that follows a depthwise one. A BatchNorm that stands before a
           convolution has its statistics taken anew;
        4. repeat on randomly flipped images when `iterations` asks for it (Algorithm 1); signals
           and several inputs are not flipped.

    Where a scheme decouples layers there are no channels to rank: Q stands behind each pointwise
    convolution that closes such a layer, and behind all layers that stayed whole.

    Args:
        iterations: passes of block coordinate descent; the paper sees no gain beyond 1.
        damping: pull of Q towards the identity, in units of the mean square of a student channel;
            the first layer of a network has fewer input dimensions than filters, so that Q is not
            determined without it. 0: what the images do not determine stays as it is.
        intercept: whether Q has a bias where its layer has one, so that b' = Q b + b_Q.
        solve_on: the least number of images that layers are solved on, as of `CrossDistillation`.
            0: the given ones, as the paper has it.
        sgd: trains the Q of all layers together on the sum over blocks (Eq. 2, FSKD-SGD), each
            block by what it lacks as a share of what it is to give, in the place of 2 to 4;
            `iterations` and `damping` do not count then. None: one layer after another.

    Raises:
        ValueError: a value is out of its range.
        TypeError: sgd is something else.
    """

    takes_decoupling: ClassVar[bool] = True
    cannot_take: ClassVar[tuple[type, ...]] = WITHOUT_CHANNELS
    iterations: int = 1
    damping: float = 0.01
    intercept: bool = False
    solve_on: int = 400
    sgd: JointSGD | None = None

    def __post_init__(self) -> None:
        """Refuses values that no pass can use."""
        check_fields(self)
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if not 0 <= self.damping < math.inf:
            raise ValueError(f"damping must be finite and at least 0, got {self.damping}")
        if self.solve_on < 0:
            raise ValueError(f"solve_on must be at least 0, got {self.solve_on}")
        if self.sgd is not None and not isinstance(self.sgd, JointSGD):
            raise TypeError(f"sgd must be a fsc.methods.JointSGD or None, got {shown(self.sgd)}")

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        student, kept = without_the_rest(task)
        names = dict(student.named_modules())
        rows = {n: each for n, each in rows_left(task.groups, kept).items() if n in names}
        match = any_aligned.match_of(task.teacher, student, task.images[:1], channels=rows)
        reports, said = any_aligned.recover(self, match, task)
        student = match.student.model.eval()
        left = match.ends.left | _flat(student, rows, {m.names[1] for m in match.ends.meetings})
        if not match.ends.meetings and left:
            said = [*said, f"FSKD aligned no layer, they stay as pruned; {commonest(left)}"]
        return Outcome(student, kept, reports, held_back=left, warnings=said)

    def recover(
        self, teacher: nn.Module, student: nn.Module, kept: Mapping[str, Tensor], task: Task
    ) -> list[LayerReport]:
        """Mask the channels of a student that go, and align those that stay, in place.

        Args:
            teacher: what the student is to give, with BatchNorm folded.
            student: of the same shapes, likewise; channels of it may be masked already.
            kept: the channels that stay of every group that lost some.
            task: images, groups, seed and progress.

        Returns:
            One report for each layer.
        """
        mask_channels(student, task.groups, kept)
        rows = rows_left(task.groups, kept)
        reports: list[LayerReport] = []
        for images in self.passes(task.teacher, task.images, task.seed):
            aligner = Aligner(student, rows, self.damping, len(images), self.intercept)
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
        return reports

    def walks_on(self, given: int, values: int) -> int:
        """How many images layers are solved on, where so many of so many values are given."""
        return enough(given, self.solve_on, values)

    def passes(self, teacher: nn.Module, images: Tensor, seed: int) -> Iterator[Tensor]:
        """What layers are solved on, [N, ...], for every pass; from the second on flipped."""
        generator = torch.Generator().manual_seed(seed)
        if joint_of(teacher) is None:
            count = self.walks_on(len(images), images[0].numel())
            images = filled_up(images, count, seed=seed)
        for iteration in range(self.iterations):
            yield randomly_mirrored(images, generator) if iteration else images

    def align(
        self,
        teacher: nn.Module,
        student: nn.Module,
        images: Images,
        *,
        blocks: AnyBlocks = "convolutions",
        channels: Channels | None = None,
        batch_size: int = 64,
        seed: int = 0,
        progress: Progress | bool = True,
    ) -> nn.Module:
        """Align the blocks of any student to those of a teacher.

        Both networks run side by side once in every pass. Where a block of the student ends, Q is
        found and absorbed by the layer there, before what comes next runs.

        Args:
            teacher: a network as for `fsc.compress`, which takes one tensor; it is not changed.
            student: a network whose blocks end with maps as large as those of the teacher's, and
                channels that are some of the teacher's: pruned by whatever means, masked or cut,
                decoupled, or designed anew; it is not changed.
            images: as for `fsc.compress`.
            blocks: where they end. "convolutions": behind every layer that mixes channels, so that
                a depthwise convolution and the one behind it are one block; "residual": behind the
                addition of every residual block, the last layer of the branch absorbs Q;
                "decoupled": behind the 1x1 convolutions that read depthwise ones. Layers stand for
                those of the same name, or of the name of what they are part of; networks that
                share no names, for those in the same place, if there are as many. "stages": behind
                the last layer with maps of a size, or the addition that it goes into, for the
                teacher's last one with such maps. Or pairs (teacher's layer, student's layer).
            channels: name of a layer of the student -> the teacher's channel of each of its output
                channels, int64 [C_out]. For other layers they are found: the same, where there are
                as many, or those whose filters the student's are copies or multiples of.
            batch_size: images that go through the networks at once.
            seed: of flips, and of images that join.
            progress: as for `fsc.compress`.

        Returns:
            The student in evaluation mode, with BatchNorms folded, as large as before.

        Warns:
            CompressionWarning: blocks could not be matched and were left as they are, each with
                its reason; or the student ended farther from the teacher than it began.

        Raises:
            ValueError: no block can be matched, or an argument does not fit.
            TypeError: an argument is of the wrong type.

        Example:
            >>> def net(width):
            ...     convs = nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 8, 3), nn.ReLU()
            ...     return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            ...                          nn.Linear(8, 4))
            >>> teacher, student, images = net(16), net(5), torch.randn(6, 3, 8, 8)
            >>> aligned = FSKD().align(teacher, student, images, blocks=[("2", "2")])
            >>> aligned(images).shape
            torch.Size([6, 4])
        """
        with telling(progress) as told:
            return any_aligned.aligned(
                self, teacher, student, images, blocks, channels, batch_size, seed, told
            )


def _flat(student: nn.Module, rows: Mapping[str, Tensor], solved: set[str]) -> dict[str, str]:
    """The Linears that lost channels and could not be aligned -> why."""
    return {
        name: f"{name!r} is not aligned: it sees one column an image, too few for a Q"
        for name in rows
        if name not in solved and isinstance(student.get_submodule(name), nn.Linear)
    }
