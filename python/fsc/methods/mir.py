"""Mimicking then Replacing (Wang et al., CVPR 2022): all layers learn the features together."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from fsc.arguments import as_rate, check_fields
from fsc.methods import any_student
from fsc.methods.arguments import as_numbers
from fsc.methods.base import WITHOUT_CHANNELS, Outcome, Task
from fsc.methods.feature_losses import check_name, feature_loss
from fsc.methods.features import TeacherFeatures, Where, body_of, head_features
from fsc.methods.head_tuning import check_head, head_lesson
from fsc.methods.l1_norm import without_the_rest
from fsc.methods.labelling import LabelUse
from fsc.methods.lesson import Lesson
from fsc.methods.schedule import Part, Schedule, in_words, trained
from fsc.methods.soundness import Yardstick
from fsc.methods.views import views_of
from fsc.networks import tracing
from fsc.networks.gathering import Images
from fsc.progress import Progress, telling
from fsc.wording import shown


@dataclass(frozen=True)
class MiR(Schedule):
    """Filters chosen by the L1 norm, then all layers before the head trained on features.

    Lifecycle:
        1. cut the filters of smallest L1 norm, or the blocks that the scheme drops, out of a copy
           of the teacher, or decouple layers of it;
        2. compute the teacher's features of the images and of their mirror images, once; signals
           [N, C, L] have none, and several inputs are left as they are;
        3. minimise the mean squared error between the student's and the teacher's features (Eq. 5)
           by SGD on randomly mirrored minibatches, BatchNorm in train mode; where that diverges,
           start again at half the learning rate. A network with several heads has features before
           each of them, and their mean errors are averaged;
        4. put the student's layers in front of the teacher's head, which was never touched; where
           features themselves went, those that stayed are compared, and the head lost the others;
        5. with `tune_head`, freeze the student's layers and train the head on their features, as
           long again: by cross entropy where there are labels, else on the teacher's scores.

    Args:
        features: "before" or "after" the last pooling; the paper recommends before.
        loss: "mse", "l1", "cosine", "lsh" or "sum", or several that are added up, "mse+l1"
            (Table 7); see `fsc.methods.feature_losses`. The learning rate is that of "mse".
        tune_head: whether the head is trained, too (Table 8); the paper finds that keeping it is
            better. With it labels are taken where there are some.
        head_learning_rate: of the head, which moves by gradients as they are, whatever `relative`
            says; the best of Table 8.
        steps: minibatches; the paper's 2000.
        batch_size: images of a minibatch; all of them where there are fewer.
        learning_rate: of SGD; falls tenfold after 40 % and 80 % of the steps, see `decay`.
        momentum: of SGD.
        weight_decay: of SGD.
        decay, warm_up, clip_norm, precondition, relative, batch_norm, precision: as in
            `fsc.methods.schedule.Schedule`.
        max_retries: how often the training starts again at half the rate, where it diverged: the
            loss or the student was not finite, or its outputs farther from the teacher's than
            before the first step.
        views: "mirrored", as the paper has it for CIFAR-10, or "crops", as for ImageNet: every
            minibatch then has other parts of the images, and the teacher's features of those; or
            "hard" or "original-crops", see `fsc.methods.schedule.Schedule`.

    Raises:
        ValueError: a value is out of its range.
    """

    takes_blocks: ClassVar[bool] = True
    takes_decoupling: ClassVar[bool] = True
    cannot_take: ClassVar[tuple[type, ...]] = WITHOUT_CHANNELS
    features: Where = "before"
    loss: str = "mse"
    tune_head: bool = False
    head_learning_rate: float = 0.05
    learning_rate: float = field(default=0.02, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses values that no training can use."""
        check_fields(self)
        if self.features not in ("before", "after"):
            raise ValueError(f"features must be before or after, got {shown(self.features)}")
        check_name(self.loss)
        super().__post_init__()
        as_rate("head_learning_rate", self.head_learning_rate)

    @property
    def label_use(self) -> LabelUse:
        """Whether labels are taken: by a head that is tuned."""
        return "optional" if self.tune_head else "none"

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher.

        Raises:
            ValueError: `tune_head`, and the teacher ends in something else than one Linear.
        """
        student, kept = without_the_rest(task)
        graph = tracing.trace(task.teacher)
        nodes = head_features(task.teacher, graph, self.features)
        wanted = TeacherFeatures(task, nodes, kept)
        rates = self.train(student, body_of(student, self.features), wanted, task)
        return Outcome(student, kept, learning_rates=rates, warnings=in_words(self, rates))

    def train(
        self,
        student: nn.Module,
        body: nn.Module,
        wanted: TeacherFeatures,
        task: Task,
        yardstick: Yardstick | None = None,
    ) -> list[float]:
        """Train the body of a student in place, then its head where it is to be tuned.

        Args:
            student: the whole network.
            body: what gives its features, sharing its parameters.
            wanted: the features that it is to have.
            task: teacher, images, labels, seed, journal and progress.
            yardstick: as for `fsc.methods.schedule.trained`.

        Returns:
            The learning rate of every run.
        """
        views = views_of(self, task).with_targets(wanted)
        lesson = Lesson(
            "mimicking features",
            views,
            feature_loss(self.loss, views.targets, task.seed),
            self.steps,
            self.learning_rate,
            self,
            task.seed,
        )
        parts: list[Part] = [lambda: (body, lesson)]
        if self.tune_head:
            check_head(task.teacher)
            rate = self.head_learning_rate
            parts.append(lambda: head_lesson(student, views, rate, self, task))
        # Labels may well lead away from the teacher.
        near = not self.tune_head or task.labels is None
        return trained(student, parts, self, task, stays_near=near, yardstick=yardstick)

    def mimic(
        self,
        teacher: nn.Module,
        student: nn.Module,
        images: Images,
        *,
        labels: Tensor | None = None,
        batch_size: int = 64,
        seed: int = 0,
        progress: Progress | bool = True,
        journal: str | os.PathLike[str] | None = None,
    ) -> nn.Module:
        """Train any student on a teacher's features and put the teacher's head behind it.

        Args:
            teacher: a network as for `fsc.compress`, which takes one tensor; it is not changed.
            student: a network whose features have the shape of the teacher's: pruned by whatever
                means, with blocks dropped, of another architecture, with or without a head of its
                own; it is not changed.
            images: as for `fsc.compress`.
            labels: int64 [N], for `tune_head`.
            batch_size: images that go through the networks at once, where nothing is trained.
            seed: of order, mirroring and dropout.
            progress: as for `fsc.compress`.
            journal: a folder where the training is kept every 50 steps.

        Returns:
            A network of two parts, `body`, the student's layers, and `head`, the teacher's, in
            evaluation mode.

        Warns:
            CompressionWarning: it diverged and was run again, or ended farther from the teacher
                than it began.

        Raises:
            ValueError: features do not match, or an argument does not fit.
            TypeError: an argument is of the wrong type.
            OSError: the journal cannot be written.

        Example:
            >>> import torch
            >>> from torch import nn
            >>> def net(width):
            ...     convs = nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, 8, 3), nn.ReLU()
            ...     return nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            ...                          nn.Linear(8, 4))
            >>> teacher, student, images = net(16), net(5), torch.randn(6, 3, 8, 8)
            >>> mimicking = MiR(steps=5).mimic(teacher, student, images)
            >>> mimicking(images).shape
            torch.Size([6, 4])
        """
        batch_size, seed = as_numbers(batch_size, seed)
        with telling(progress) as told:
            pair = any_student.paired(self, teacher, student, images, labels)
            return any_student.mimicked(self, pair, batch_size, seed, told, journal)
