"""Every layer solved in closed form, then all of them trained together on features."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import ClassVar

from fsc.layers.objectives import Estimation
from fsc.methods.arguments import as_given
from fsc.methods.base import Outcome, Task
from fsc.methods.cross_distillation import CrossDistillation
from fsc.methods.features import TeacherFeatures, body_of, head_features
from fsc.methods.fskd import FSKD
from fsc.methods.head_tuning import check_head
from fsc.methods.l1_norm import without_the_rest
from fsc.methods.mir import MiR
from fsc.methods.schedule import NeverFinite, Precision, in_words, judging
from fsc.methods.soundness import NEAR, is_sound
from fsc.methods.views import are_pictures, check_views
from fsc.networks import tracing
from fsc.schemes import Decoupling, DropBlocks, Scheme
from fsc.solvers.closed_form import Selection


def solving(solve_on: int = 400) -> CrossDistillation:
    """Cross distillation as it recovers most: estimation, behind additions, on many images."""
    return CrossDistillation(Estimation(), after_addition=True, solve_on=solve_on)


def training(steps: int = 800, precision: Precision = "float32") -> MiR:
    """MiR as it goes on from solved layers: gradients preconditioned, hard images, a cosine."""
    return MiR(
        steps=steps,
        batch_size=25,
        learning_rate=0.02,
        decay="cosine",
        warm_up=20,
        clip_norm=2.0,
        precondition=0.3,
        batch_norm="frozen",
        views="hard",
        precision=precision,
    )


@dataclass(frozen=True)
class SolveThenTrain:
    """The default: cross distillation on augmented images, then features mimicked as in MiR.

    Lifecycle:
        1. `solve`: walk teacher and student side by side and solve every layer for the teacher's
           outputs, behind additions, on the given images, their mirror images and hard ones; each
           BatchNorm is folded into its convolution before. Where a scheme drops blocks there is
           nothing to solve; where it decouples layers, `FSKD` aligns each to the teacher's;
        2. `train`: all layers before the heads together, for the teacher's features of hard images.
           Layers stay what they are: nothing is normalised by minibatches;
        3. a training that leads away from the teacher, on hard images that neither has seen, is
           undone, and said.

    A scheme of single weights or of bits is solved and not trained: steps would undo it. Where next
    to nothing was lost, nothing is trained. Inputs that are no images have no hard ones.

    Args:
        solve: of the layers.
        train: of all of them; None: they stay as they were solved, and blocks cannot be dropped.

    Raises:
        TypeError: either is something else.
    """

    takes_decoupling: ClassVar[bool] = True
    solve: CrossDistillation = field(default_factory=solving)
    train: MiR | None = field(default_factory=training)

    def __post_init__(self) -> None:
        """Refuses other methods before any work is done."""
        if not isinstance(self.solve, CrossDistillation):
            raise TypeError(f"solve must be a CrossDistillation, got {as_given(self.solve)}")
        if self.train is not None and not isinstance(self.train, MiR):
            raise TypeError(f"train must be a MiR or None, got {as_given(self.train)}")

    @property
    def takes_blocks(self) -> bool:
        """Whether blocks may be missing: something has to make up for them."""
        return self.train is not None

    @property
    def selection(self) -> Selection:
        """How channels are chosen where no layer chooses among them while it is solved."""
        return self.solve.selection

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher.

        Raises:
            ValueError: the scheme does not fit, or a part of the method does not go with the
                teacher or its inputs.
        """
        method = self._training(task)
        if isinstance(task.scheme, DropBlocks):
            student, kept = without_the_rest(task)
            outcome = Outcome(student.eval(), kept)
        elif isinstance(task.scheme, Decoupling):
            outcome = FSKD(solve_on=self.solve.solve_on).compress(task)
        else:
            outcome = self.solve.compress(task)
        if method is None or not isinstance(task.scheme, Scheme | DropBlocks | Decoupling):
            return outcome
        return _trained(outcome, method, task)

    def _training(self, task: Task) -> MiR | None:
        """How the task's student is trained; what does not fit is refused before any work."""
        method = self.train
        if method is None:
            return None
        if method.views == "hard" and not are_pictures(task.teacher, task.images):
            method = replace(method, views="mirrored")
        check_views("compress", method, task.teacher, task.images, originals=task.originals)
        if method.tune_head:
            check_head(task.teacher)
        return method


def _trained(outcome: Outcome, method: MiR, task: Task) -> Outcome:
    """The student trained on, or as it was where that does not help."""
    student = outcome.student
    try:
        nodes = head_features(task.teacher, tracing.trace(task.teacher), method.features)
    except ValueError as error:  # it ends in something without features before it
        return _with(outcome, f"layers are not trained together: {error}")
    yardstick = judging(method, task)
    start, solved = yardstick.distance(student), copy.deepcopy(student.state_dict())
    if start < NEAR:
        return outcome
    wanted = TeacherFeatures(task, nodes, outcome.kept)
    try:
        rates = method.train(student, body_of(student, method.features), wanted, task, yardstick)
    except NeverFinite as error:
        student.load_state_dict(solved)
        return _with(outcome, f"layers are as they were solved: {error}")
    end = yardstick.distance(student)
    if not is_sound(end, start):
        student.load_state_dict(solved)
        return _with(
            outcome,
            "layers are as they were solved: training led away from the teacher, on new images "
            f"from {start:.4g} to {end:.4g} of the {yardstick.scale} of its outputs",
        )
    said = [*outcome.warnings, *in_words(method, rates)]
    return replace(outcome, learning_rates=rates, warnings=said)


def _with(outcome: Outcome, sentence: str) -> Outcome:
    return replace(outcome, warnings=[*outcome.warnings, sentence])
