"""Every layer solved in closed form, then all of them trained together on features."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import ClassVar

from torch import nn

from fsc.layers.objectives import Estimation
from fsc.methods.base import Outcome, Task
from fsc.methods.cross_distillation import CrossDistillation
from fsc.methods.features import TeacherFeatures, body_of, head_features
from fsc.methods.l1_norm import without_the_rest
from fsc.methods.mir import MiR
from fsc.methods.schedule import in_words
from fsc.methods.soundness import Yardstick
from fsc.methods.views import are_pictures, judged_images
from fsc.networks import tracing
from fsc.schemes import DropBlocks, Scheme
from fsc.solvers.closed_form import Selection


def solving(solve_on: int = 400) -> CrossDistillation:
    """Cross distillation as it recovers most: estimation, behind additions, on many images."""
    return CrossDistillation(Estimation(), after_addition=True, solve_on=solve_on)


def training(steps: int = 800) -> MiR:
    """MiR as it goes on from solved layers: BatchNorm stays, the teacher labels hard images."""
    return MiR(
        steps=steps,
        batch_size=25,
        learning_rate=0.01,
        decay="cosine",
        warm_up=20,
        clip_norm=2.0,
        batch_norm="frozen",
        views="hard",
    )


@dataclass(frozen=True)
class SolveThenTrain:
    """The default: cross distillation on augmented images, then features mimicked as in MiR.

    Lifecycle:
        1. `solve`: walk teacher and student side by side and solve every layer for the teacher's
           outputs, behind additions, on the given images, their mirror images and hard ones; each
           BatchNorm is folded into its convolution before. Where a scheme drops blocks there is
           nothing to solve;
        2. `train`: all layers before the heads together, for the teacher's features of other hard
           images, computed once. Layers stay what they are: nothing is normalised by minibatches;
        3. a training that leads away from the teacher, on hard images that neither has seen, is
           undone, and said.

    A scheme of single weights or of bits is solved and not trained: steps would undo it. Inputs
    that are no images are taken as they are.

    Args:
        solve: of the layers.
        train: of all of them; None: they stay as they were solved.
    """

    takes_blocks: ClassVar[bool] = True
    solve: CrossDistillation = field(default_factory=solving)
    train: MiR | None = field(default_factory=training)

    @property
    def selection(self) -> Selection:
        """How channels are chosen where no layer chooses among them while it is solved."""
        return self.solve.selection

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        if isinstance(task.scheme, DropBlocks):
            student, kept = without_the_rest(task)
            outcome = Outcome(student.eval(), kept)
        else:
            outcome = self.solve.compress(task)
        if self.train is None or not isinstance(task.scheme, Scheme | DropBlocks):
            return outcome
        return self._trained(outcome, self.train, task)

    def _trained(self, outcome: Outcome, method: MiR, task: Task) -> Outcome:
        """The student trained on, or as it was where that does not help."""
        student, kept = outcome.student, outcome.kept
        if not are_pictures(task.teacher, task.images):
            method = replace(method, views="mirrored")
        judges = judged_images(method, task)
        yardstick = Yardstick(task.teacher, judges, task.batch_size)
        start, solved = yardstick.distance(student), copy.deepcopy(student.state_dict())
        graph = tracing.trace(task.teacher)
        try:
            nodes = head_features(task.teacher, graph, method.features)
            body = body_of(student, method.features)
            wanted = TeacherFeatures(task, nodes, kept)
            rates = method.train(student, body, wanted, task)
        except ValueError as error:
            student.load_state_dict(solved)
            return _with(outcome, student, f"layers are not trained together: {error}")
        outcome = replace(outcome, learning_rates=rates)
        end = yardstick.distance(student)
        if end > start:
            student.load_state_dict(solved)
            return _with(
                outcome,
                student,
                "layers are as they were solved: training led away from the teacher, from "
                f"{start:.3g} to {end:.3g} of the energy of its outputs",
            )
        return replace(outcome, warnings=outcome.warnings + in_words(method, rates))


def _with(outcome: Outcome, student: nn.Module, sentence: str) -> Outcome:
    return replace(outcome, student=student.eval(), warnings=[*outcome.warnings, sentence])
