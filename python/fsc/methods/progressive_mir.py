"""MiR for single weights (Wang et al., CVPR 2022, appendix B): pruned and trained by turns."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import ClassVar

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

import fsc_ext
from fsc.arguments import check_fields
from fsc.methods.base import Outcome, Task, check_fits
from fsc.methods.feature_losses import check_name, feature_loss
from fsc.methods.features import TeacherFeatures, Where, body_of, head_features
from fsc.methods.l1_norm import L1Norm
from fsc.methods.lesson import Lesson, all_trainable
from fsc.methods.schedule import Part, Schedule, in_words, trained
from fsc.methods.views import AnyViews, views_of
from fsc.networks import tracing
from fsc.schemes import SparseScheme
from fsc.schemes.sparse import counts_on_the_way
from fsc.wording import shown

# More prunings than a hundred would take days.
_LEAST_SHARE = 0.01


@dataclass(frozen=True)
class ProgressiveMiR(Schedule):
    """Single weights removed by magnitude, a share at a time, and features mimicked in between.

    For schemes of single weights, such as "sparse-90" (Table 11). The paper prunes 20 % of the
    weights, trains 400 steps, and so on until 90 % are gone, then trains 4000 steps. Here 20 % are
    those of the whole, so that 20, 40, 60, 80 and 90 % are gone. It leaves the first convolution
    whole, as `fsc.schemes.sparse(teacher, 0.9, ignored=[...])` does; "sparse-90" prunes it, too.

    Lifecycle:
        1. compute the teacher's features of the images and of their mirror images, once;
        2. set the smallest magnitudes of every layer of the scheme in a copy of the teacher to
           zero, `share` of all its weights more than before, but no more than the scheme removes;
        3. minimise the error of the student's features by SGD for `steps_between` steps, BatchNorm
           in train mode; weights that are zero have no gradient and stay zero;
        4. repeat 2 and 3; the last time, when all weights of the scheme are gone, for `steps`;
        5. where that diverges, start again from the teacher at half the learning rate. The head is
           not trained; what the scheme names of it is pruned.

    Args:
        features: "before" or "after" the last pooling.
        loss: see `MiR`.
        share: of the weights of a layer that goes at a time; the paper's 0.2.
        steps_between: minibatches after every pruning but the last; the paper's 400.
        steps: minibatches after the last; the paper's 4000.
        batch_size: images of a minibatch; all of them where there are fewer.
        learning_rate: of SGD; falls tenfold after 40 % and 80 % of the steps, from the beginning
            after every pruning.
        momentum: of SGD, from nothing after every pruning.
        weight_decay: of SGD.
        max_retries: how often the training starts again at half the rate, where it diverged: the
            loss or the student was not finite, or its outputs farther from the teacher's than
            without any training.
        views, decay, warm_up, clip_norm, relative, batch_norm, precision: as in
            `fsc.methods.schedule.Schedule`.

    Raises:
        ValueError: a value is out of its range.
    """

    takes_weights_alone: ClassVar[bool] = True
    features: Where = "before"
    loss: str = "mse"
    share: float = field(default=0.2, kw_only=True)
    steps_between: int = field(default=400, kw_only=True)
    steps: int = field(default=4000, kw_only=True)
    learning_rate: float = field(default=0.02, kw_only=True)

    def __post_init__(self) -> None:
        """Refuses values that no training can use."""
        check_fields(self)
        if self.features not in ("before", "after"):
            raise ValueError(f"features must be before or after, got {shown(self.features)}")
        check_name(self.loss)
        if not _LEAST_SHARE <= self.share <= 1:
            raise ValueError(f"share must be in [{_LEAST_SHARE}, 1], got {self.share}")
        if self.steps_between < 1:
            raise ValueError(f"steps_between must be at least 1, got {self.steps_between}")
        if self.precondition is not None:
            raise ValueError(
                "precondition must be None for ProgressiveMiR, whose pruned weights would grow "
                f"again, got {self.precondition}"
            )
        super().__post_init__()

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher.

        Raises:
            ValueError: the scheme removes something else than single weights.
        """
        check_fits(self, task.scheme, repr(task.scheme.name))
        assert isinstance(task.scheme, SparseScheme)
        nodes = head_features(task.teacher, tracing.trace(task.teacher), self.features)
        views = views_of(self, task).with_targets(TeacherFeatures(task, nodes, {}))
        student = copy.deepcopy(task.teacher)
        body = body_of(student, self.features)
        stages = counts_on_the_way(task.scheme, student, self.share)
        with all_trainable(student), _Masks(student) as masks:
            parts: list[Part] = [
                partial(self._part, body, masks, counts, views, task) for counts in stages
            ]
            untrained = L1Norm().compress(task).student
            rates = trained(student, parts, self, task, start=untrained)
        return Outcome(student, {}, learning_rates=rates, warnings=in_words(self, rates))

    def _part(
        self,
        body: nn.Module,
        masks: _Masks,
        counts: Mapping[str, int],
        views: AnyViews,
        task: Task,
    ) -> tuple[nn.Module, Lesson]:
        """Prunes, and gives what is trained then."""
        assert isinstance(task.scheme, SparseScheme)
        gone = masks.prune(counts)
        lesson = Lesson(
            f"mimicking features, {100 * gone:.0f} % pruned",
            views,
            feature_loss(self.loss, views.targets, task.seed),
            self.steps if counts == task.scheme.kept else self.steps_between,
            self.learning_rate,
            self,
            task.seed,
        )
        return body, lesson


class _Masks:
    """Keeps pruned weights of a network at zero while it is trained, until the block ends.

    A weight of zero without a gradient stays zero: momentum and weight decay add nothing to it.

    Args:
        student: the network; its weights require gradients.
    """

    def __init__(self, student: nn.Module) -> None:
        """Holds nothing yet."""
        self._student = student
        self._handles: list[RemovableHandle] = []

    def prune(self, counts: Mapping[str, int]) -> float:
        """Sets all but so many weights of some layers to zero, and holds them there.

        Zeros come last and the first of equal ones are kept, so that a student that was pruned so
        and then trained has the same mask again.

        Returns:
            The share of the weights of these layers that is gone.
        """
        self._release()
        sizes = {}
        for name, count in counts.items():
            weight = self._student.get_submodule(name).get_parameter("weight")
            sizes[name] = weight.numel()
            if not weight.isfinite().all():
                continue  # it diverged, and the next loss says so
            mask = fsc_ext.keep_topk_(weight.detach(), count)
            self._handles.append(weight.register_hook(partial(Tensor.mul, other=mask)))
        return 1 - sum(counts.values()) / sum(sizes.values())

    def _release(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def __enter__(self) -> _Masks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release()
