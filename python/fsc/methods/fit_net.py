"""FitNets (Romero et al., ICLR 2015): hints inside the network, then knowledge distillation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, fx, nn

from fsc.arguments import as_rate
from fsc.methods.base import WITHOUT_CHANNELS, Outcome, Task
from fsc.methods.feature_losses import feature_loss
from fsc.methods.features import TeacherFeatures, scores_of
from fsc.methods.kd import check_distillation, distilling, without_labels
from fsc.methods.l1_norm import without_the_rest
from fsc.methods.labelling import LabelUse
from fsc.methods.lesson import Lesson
from fsc.methods.schedule import Part, Schedule, in_words, trained
from fsc.methods.score_losses import Distillation
from fsc.methods.views import AnyViews, views_of
from fsc.networks import tracing
from fsc.networks.features import truncate
from fsc.networks.modes import evaluation_mode
from fsc.networks.outputs import tensors_of
from fsc.networks.stages import stage_ends


@dataclass(frozen=True, kw_only=True)
class FitNet(Schedule):
    r"""Filters chosen by the L1 norm, features trained at the ends of stages, then `KD`.

    .. math:: \min_W \tfrac{1}{H} \sum_h \tfrac{1}{N C_h P_h} \| F_S^h - F_T^h \|_F^2,
              \quad \text{then the loss of KD}

    :math:`F^h` are the features where stage h ends: the last feature map of every size that
    nothing goes past. Where channels of it went, those that stayed are compared, so that the
    regressor of the paper has nothing to do. The second part learns labels where there are some.

    Lifecycle:
        1. cut the filters of smallest L1 norm out of a copy of the teacher, or decouple its layers;
        2. for half of the steps minimise the mean squared error of all hints by SGD on randomly
           mirrored minibatches, BatchNorm in train mode;
        3. for the other half do what `KD` does; where either diverges, start again at half the
           learning rates.

    Args:
        hint_learning_rate: of the first half; that of MiR, whose loss is the same in one place.
        temperature: tau of the second half, as of `KD`.
        weight: of the teacher's scores in the second half, as of `KD`.
        steps: minibatches of both halves.
        batch_size: images of a minibatch; all of them where there are fewer.
        learning_rate: of the second half; both fall tenfold after 40 % and 80 % of their steps.
        momentum: of SGD.
        weight_decay: of SGD.
        decay, warm_up, clip_norm, precondition, relative, batch_norm, precision: as in
            `fsc.methods.schedule.Schedule`.
        max_retries: how often the training starts again at half the rates, where it diverged.
        views: "mirrored", "crops" or "original-crops", drawn anew at every step, or, without
            labels, "hard".

    Raises:
        ValueError: a value is out of its range.
    """

    takes_decoupling: ClassVar[bool] = True
    cannot_take: ClassVar[tuple[type, ...]] = WITHOUT_CHANNELS
    label_use: ClassVar[LabelUse] = "optional"

    hint_learning_rate: float = 0.02
    temperature: float = 2.0
    weight: float = 0.7

    def __post_init__(self) -> None:
        """Refuses values that no training can use."""
        super().__post_init__()
        as_rate("hint_learning_rate", self.hint_learning_rate)
        self.check_share("hint_learning_rate", self.hint_learning_rate)
        check_distillation(self.temperature, self.weight)

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher.

        Raises:
            ValueError: the teacher gives no class scores, or has no place for hints.
        """
        scores_of("FitNet", task.teacher, task.images[:1])
        student, kept = without_the_rest(task)
        near = task.labels is None or self.weight == 1
        rates = trained(student, self.parts(student, kept, task), self, task, stays_near=near)
        said = in_words(self, rates) + without_labels(self, self.weight, task)
        said += self.left(student, kept, task)
        return Outcome(student, kept, learning_rates=rates, warnings=said)

    def parts(self, student: nn.Module, kept: Mapping[str, Tensor], task: Task) -> list[Part]:
        """The hints, then the scores.

        Args:
            student: which is changed when the parts are taken: made of the teacher, or any whose
                stages end as some of the teacher's.
            kept: the channels that stay of every group that lost some.
            task: teacher, images and labels.

        Raises:
            ValueError: no stage of both ends in maps of one size and as many channels.
        """
        views = views_of(self, task)
        body, hints = self._hints(student, kept, views, task)
        loss = Distillation(self.temperature, self.weight)
        scores = distilling(views, loss, self.steps - hints.steps, self, task)
        return [lambda: (body, hints), lambda: (student, scores)]

    def left(self, student: nn.Module, kept: Mapping[str, Tensor], task: Task) -> list[str]:
        """What is to be said of stages of the teacher that end as none of the student's.

        Takes and raises what `parts` does.
        """
        _, left = _pairs(student, kept, task)
        if not left:
            return []
        return [
            "FitNet gave no hints where the teacher's stages end in "
            f"{_in_words(left)}: none of the student's ends so"
        ]

    def _hints(
        self, student: nn.Module, kept: Mapping[str, Tensor], views: AnyViews, task: Task
    ) -> tuple[nn.Module, Lesson]:
        """The student up to its last hint, and the hints [B, C, ...] that it is given."""
        pairs, _ = _pairs(student, kept, task)
        hints = TeacherFeatures(task, tuple(node for node, _ in pairs), kept)
        body = truncate(student, pairs[0][1].graph, tuple(end for _, end in pairs))
        loss = feature_loss("mse", hints.example, task.seed)
        both, steps = views.with_targets(hints), self.steps // 2
        lesson = Lesson("hints", both, loss, steps, self.hint_learning_rate, self, task.seed)
        return body, lesson


def _pairs(
    student: nn.Module, kept: Mapping[str, Tensor], task: Task
) -> tuple[list[tuple[fx.Node, fx.Node]], list[torch.Size]]:
    """Where stages of both networks end, and what those of the teacher give that have no partner.

    Raises:
        ValueError: no stage has one.
    """
    graph, own = tracing.trace(task.teacher), tracing.trace(student)
    nodes = stage_ends(task.teacher, graph, task.images[:1])
    ends = stage_ends(student, own, task.images[:1], "student")
    wanted = [each.shape for each in TeacherFeatures(task, tuple(nodes), kept).example]
    with evaluation_mode(student), torch.no_grad():
        given = tensors_of(truncate(student, own, tuple(ends))(task.images[:1]))
    # One stage has maps of one size, in each of the networks.
    partners = {each.shape: end for each, end in zip(given, ends, strict=True)}
    both = zip(wanted, nodes, strict=True)
    pairs = [(node, partners[shape]) for shape, node in both if shape in partners]
    if not pairs:
        raise ValueError(
            f"student must have a stage that ends as one of the teacher's, in {_in_words(wanted)}, "
            f"for hints, got {_in_words(list(partners))}"
        )
    return pairs, [shape for shape in wanted if shape not in partners]


def _in_words(shapes: Sequence[torch.Size]) -> str:
    return " and ".join(str(list(shape[1:])) for shape in shapes)
