"""Fine-tuning by cross entropy on the few labelled images, "BP" in the papers' tables."""

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
from fsc.methods.score_losses import cross_entropy
from fsc.methods.views import views_of


@dataclass(frozen=True, kw_only=True)
class BackProp(Schedule):
    r"""Filters chosen by the L1 norm, then the whole network fine-tuned with labels.

    .. math:: \min_W \mathrm{CE}(f_S(x), y)

    The baseline of the MiR paper (Wang et al., CVPR 2022, section 4 and appendix A). Needs labels.

    Lifecycle:
        1. cut the filters of smallest L1 norm out of a copy of the teacher, or decouple its layers;
        2. minimise the cross entropy by SGD on randomly mirrored minibatches, head included,
           BatchNorm in train mode; where that is not finite, start again at half the learning rate.

    Args:
        steps: minibatches; the paper's 2000.
        batch_size: images of a minibatch; all of them where there are fewer.
        learning_rate: of SGD; falls tenfold after 40 % and 80 % of the steps, see `decay`.
        momentum: of SGD.
        weight_decay: of SGD.
        decay, warm_up, clip_norm, precondition, relative, batch_norm, precision: as in
            `fsc.methods.schedule.Schedule`.
        max_retries: how often the training starts again at half the rate, where it diverged.
        views: "mirrored", "crops" or "original-crops", drawn anew at every step; not "hard", which
            mixes images.

    Raises:
        ValueError: a value is out of its range.
    """

    takes_decoupling: ClassVar[bool] = True
    cannot_take: ClassVar[tuple[type, ...]] = WITHOUT_CHANNELS
    label_use: ClassVar[LabelUse] = "needed"

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher.

        Raises:
            ValueError: the teacher gives no class scores.
        """
        scores_of("BackProp", task.teacher, task.images[:1])
        student, kept = without_the_rest(task)
        rates = trained(student, self.parts(student, kept, task), self, task, stays_near=False)
        return Outcome(student, kept, learning_rates=rates, warnings=in_words(self, rates))

    def parts(self, student: nn.Module, kept: Mapping[str, Tensor], task: Task) -> list[Part]:
        """What a student is to learn, in one part.

        Args:
            student: which is changed when the part is taken.
            kept: the channels that stay of every group that lost some; it does not matter here.
            task: images and labels.
        """
        assert task.labels is not None
        lesson = Lesson(
            "fine-tuning",
            views_of(self, task).with_targets(labels=task.labels),
            cross_entropy,
            self.steps,
            self.learning_rate,
            self,
            task.seed,
        )
        return [lambda: (student, lesson)]
