"""Knowledge distillation (Hinton, Vinyals and Dean, 2015) of a pruned network."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from fsc.methods.base import WITHOUT_CHANNELS, Outcome, Task
from fsc.methods.features import scores_of
from fsc.methods.l1_norm import without_the_rest
from fsc.methods.labelling import LabelUse
from fsc.methods.lesson import Lesson
from fsc.methods.schedule import Part, Schedule, in_words, trained
from fsc.methods.score_losses import Distillation
from fsc.methods.views import AnyViews, views_of


@dataclass(frozen=True, kw_only=True)
class KD(Schedule):
    r"""Filters chosen by the L1 norm, then the whole network trained on the teacher's scores.

    .. math:: \min_W w \tau^2 \mathrm{KL}(\sigma(f_T(x) / \tau) \,\|\, \sigma(f_S(x) / \tau))
              + (1 - w) \mathrm{CE}(f_S(x), y)

    The baseline of the MiR paper (Wang et al., CVPR 2022, section 4 and appendix A). Without labels
    the first term is all there is, with a weight of one, and a warning says so; `weight=1` asks
    for that and needs none.

    Lifecycle:
        1. cut the filters of smallest L1 norm out of a copy of the teacher, or decouple its layers;
        2. compute the teacher's scores of the images and of their mirror images, once;
        3. minimise the loss by SGD on randomly mirrored minibatches, head included, BatchNorm in
           train mode; where that diverges, start again at half the learning rate.

    Args:
        temperature: tau; the paper's 2.
        weight: w, of the teacher's scores; the paper's 0.7.
        steps: minibatches; the paper's 2000.
        batch_size: images of a minibatch; all of them where there are fewer.
        learning_rate: of SGD; falls tenfold after 40 % and 80 % of the steps, see `decay`.
        momentum: of SGD.
        weight_decay: of SGD.
        decay, warm_up, clip_norm, precondition, relative, batch_norm, precision: as in
            `fsc.methods.schedule.Schedule`.
        max_retries: how often the training starts again at half the rate, where it diverged.
        views: "mirrored", "crops" or "original-crops", drawn anew at every step, or, without
            labels, "hard".

    Raises:
        ValueError: a value is out of its range.
    """

    takes_decoupling: ClassVar[bool] = True
    cannot_take: ClassVar[tuple[type, ...]] = WITHOUT_CHANNELS
    label_use: ClassVar[LabelUse] = "optional"

    temperature: float = 2.0
    weight: float = 0.7

    def __post_init__(self) -> None:
        """Refuses values that no training can use."""
        super().__post_init__()
        check_distillation(self.temperature, self.weight)

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher.

        Raises:
            ValueError: the teacher gives no class scores.
        """
        scores_of("KD", task.teacher, task.images[:1])
        student, kept = without_the_rest(task)
        near = task.labels is None or self.weight == 1
        rates = trained(student, self.parts(student, kept, task), self, task, stays_near=near)
        said = in_words(self, rates) + without_labels(self, self.weight, task)
        return Outcome(student, kept, learning_rates=rates, warnings=said)

    def parts(self, student: nn.Module, kept: Mapping[str, Tensor], task: Task) -> list[Part]:
        """What a student is to learn, in one part; as of `BackProp`."""
        loss = Distillation(self.temperature, self.weight)
        lesson = distilling(views_of(self, task), loss, self.steps, self, task)
        return [lambda: (student, lesson)]


def check_distillation(temperature: float, weight: float) -> None:
    """Make sure that a temperature and a weight are such.

    Raises:
        ValueError: they are not.
    """
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be finite and above 0, got {temperature}")
    if not 0 <= weight <= 1:
        raise ValueError(f"weight must be in [0, 1], got {weight}")


def distilling(
    views: AnyViews, loss: Distillation, steps: int, schedule: Schedule, task: Task
) -> Lesson:
    """The scores of the task's teacher, and its labels where it has some, as a lesson.

    Args:
        views: of the images.
        loss: temperature and weight.
        steps: minibatches.
        schedule: the method.
        task: teacher, labels and seed.
    """
    both = views.with_targets(task.teacher, task.labels)  # scores [B, classes], labels [B]
    rate = schedule.learning_rate
    return Lesson("distilling", both, loss, steps, rate, schedule, task.seed)


def without_labels(method: Schedule, weight: float, task: Task) -> list[str]:
    """What is to be said where labels would have been learned, and there are none."""
    if task.labels is not None or weight == 1:
        return []
    name = type(method).__name__
    return [
        f"{name} had no labels: it learned the teacher's scores alone, as weight=1 does, instead "
        f"of weight={weight:g}"
    ]
