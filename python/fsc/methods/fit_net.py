"""FitNets (Romero et al., ICLR 2015): hints inside the network, then knowledge distillation."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, fx, nn

from fsc.methods.base import Outcome, Task
from fsc.methods.feature_losses import feature_loss
from fsc.methods.features import TeacherFeatures, scores_of
from fsc.methods.kd import check_distillation, distilling, without_labels
from fsc.methods.l1_norm import without_the_rest
from fsc.methods.labelling import LabelUse
from fsc.methods.lesson import Lesson
from fsc.methods.schedule import Part, Schedule, check_rate, in_words, trained
from fsc.methods.score_losses import Distillation
from fsc.methods.views import AnyViews, views_of
from fsc.networks import tracing
from fsc.networks.decoupling import ends_of
from fsc.networks.features import truncate
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
        decay, warm_up, clip_norm, precondition, batch_norm, hard_images, precision: as in
            `fsc.methods.schedule.Schedule`.
        max_retries: how often the training starts again at half the rates, where it diverged.
        views: "mirrored", "crops", drawn anew at every step, or, without labels, "hard".

    Raises:
        ValueError: a value is out of its range.
    """

    takes_decoupling: ClassVar[bool] = True
    label_use: ClassVar[LabelUse] = "optional"

    hint_learning_rate: float = 0.02
    temperature: float = 2.0
    weight: float = 0.7

    def __post_init__(self) -> None:
        """Refuses values that no training can use."""
        super().__post_init__()
        check_rate("hint_learning_rate", self.hint_learning_rate)
        check_distillation(self.temperature, self.weight)

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher.

        Raises:
            ValueError: the teacher gives no class scores, or has no place for hints.
        """
        scores_of("FitNet", task.teacher, task.images[:1])
        student, kept = without_the_rest(task)
        views = views_of(self, task)
        body, hints = self._hints(student, kept, views, task)
        loss = Distillation(self.temperature, self.weight)
        scores = distilling(views, loss, self.steps - hints.steps, self, task)
        parts: list[Part] = [lambda: (body, hints), lambda: (student, scores)]
        near = task.labels is None or self.weight == 1
        rates = trained(student, parts, self, task, stays_near=near)
        said = in_words(self, rates) + without_labels(self, self.weight, task)
        return Outcome(student, kept, learning_rates=rates, warnings=said)

    def _hints(
        self, student: nn.Module, kept: dict[str, Tensor], views: AnyViews, task: Task
    ) -> tuple[nn.Module, Lesson]:
        """The student up to its last hint, and the hints [B, C, ...] that it is given."""
        graph = tracing.trace(task.teacher)
        nodes = tuple(stage_ends(task.teacher, graph, task.images[:1]))
        hints = TeacherFeatures(task, nodes, kept)
        own = tracing.trace(student)
        body = truncate(student, own, _same_places(nodes, own, student))
        loss = feature_loss("mse", hints.example, task.seed)
        both, steps = views.with_targets(hints), self.steps // 2
        lesson = Lesson("hints", both, loss, steps, self.hint_learning_rate, self, task.seed)
        return body, lesson


def _same_places(
    nodes: tuple[fx.Node, ...], graph: fx.Graph, student: nn.Module
) -> tuple[fx.Node, ...]:
    """The nodes of a student's graph that give what nodes of the teacher's give."""
    named = {node.name: node for node in graph.nodes}
    called = {str(node.target): node for node in graph.nodes if node.op == "call_module"}
    ends = ends_of(student)
    return tuple(
        called[ends[str(node.target)]] if str(node.target) in ends else named[node.name]
        for node in nodes
    )
