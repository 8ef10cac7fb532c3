"""Mimicking then Replacing (Wang et al., CVPR 2022): all layers learn the features together."""

import copy
import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx, nn

from fsc.channels.cutting import cut_channels
from fsc.channels.groups import columns_left
from fsc.images.augmentation import mirrored
from fsc.methods.base import Outcome, Task
from fsc.methods.l1_norm import largest_channels
from fsc.methods.mimicking import Lesson, Mimicry, all_trainable, fast_layout, own_draws
from fsc.methods.soundness import Yardstick, is_sound
from fsc.methods.training_state import TrainingState
from fsc.networks.features import feature_nodes, reader_of, truncate
from fsc.networks.tracing import trace

# At each the loss is looked at, and the state kept where there is a journal.
_STEPS_BETWEEN_LOOKS = 50


@dataclass(frozen=True)
class MiR:
    """Filters chosen by the L1 norm, then all layers before the head trained on features.

    Lifecycle:
        1. cut the filters of smallest L1 norm out of a copy of the teacher;
        2. compute the teacher's features of the images and of their mirror images, once; signals
           [N, C, L] have none, and several inputs are left as they are;
        3. minimise the mean squared error between the student's and the teacher's features (Eq. 5)
           by SGD on randomly mirrored minibatches, BatchNorm in train mode; where that diverges,
           start again at half the learning rate. A network with several heads has features before
           each of them, and their mean errors are averaged;
        4. put the student's layers in front of the teacher's head, which was never touched; where
           features themselves went, those that stayed are compared, and the head lost the others.

    Args:
        features: "before" or "after" the last pooling; the paper recommends before.
        steps: minibatches; the paper's 2000.
        batch_size: images of a minibatch; all of them where there are fewer.
        learning_rate: of SGD; falls tenfold after 40 % and 80 % of the steps.
        momentum: of SGD.
        weight_decay: of SGD.
        max_retries: how often the training starts again at half the rate, where it diverged: the
            loss or the student was not finite, or its outputs farther from the teacher's than
            before the first step.

    Raises:
        ValueError: a value is out of its range.
    """

    features: Literal["before", "after"] = "before"
    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 0.02
    momentum: float = 0.9
    weight_decay: float = 1e-4
    max_retries: int = 3

    def __post_init__(self) -> None:
        """Refuses values that no training can use."""
        if self.features not in ("before", "after"):
            raise ValueError(f"features must be before or after, got {self.features!r}")
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be finite and above 0, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and at least 0, got {self.weight_decay}")
        if self.max_retries < 0:
            raise ValueError(f"max_retries must be at least 0, got {self.max_retries}")

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        kept = largest_channels(task.teacher, task.groups, task.channels_left())
        student = copy.deepcopy(task.teacher)
        cut_channels(student, task.groups, kept)
        mirror = mirrored(task.images)
        views = [task.images] if mirror is None else [task.images, mirror]
        both = torch.stack(views)  # [2, N, C, H, W]
        targets = self._targets(task, both, kept)
        body = self._body(student).eval()
        lesson = Lesson(
            both,
            targets,
            self.steps,
            self.batch_size,
            self.momentum,
            self.weight_decay,
            task.seed,
        )
        with all_trainable(body), fast_layout(body, both):
            rates = self._train(student, body, lesson, task)
        return Outcome(student.eval(), kept, learning_rates=rates, warnings=_in_words(rates))

    def _body(self, model: nn.Module) -> nn.Module:
        """The layers before the head, sharing the model's parameters."""
        graph = trace(model)
        return truncate(model, graph, self._features(model, graph))

    def _features(self, model: nn.Module, graph: fx.Graph) -> tuple[fx.Node, ...]:
        """Before every head, each once."""
        which = 0 if self.features == "before" else 1
        return tuple({pair[which]: None for pair in feature_nodes(model, graph)})

    def _targets(self, task: Task, both: Tensor, kept: dict[str, Tensor]) -> list[Tensor]:
        """Those of the teacher's features that the student still has, [2, N, ...] each."""
        body = self._body(task.teacher).eval()
        with torch.no_grad():
            batches = [body(batch) for batch in both.flatten(0, 1).split(task.batch_size)]
        graph = trace(task.teacher)
        targets = []
        for node, parts in zip(
            self._features(task.teacher, graph), zip(*batches, strict=True), strict=True
        ):
            features = torch.cat(parts)
            stays = columns_left(task.groups, kept).get(reader_of(task.teacher, node))
            if stays is not None:
                # A Linear may read several pixels of a feature.
                features = features[:, stays.view(features.shape[1], -1)[:, 0]]
            targets.append(features.unflatten(0, both.shape[:2]))
        return targets

    def _train(
        self, student: nn.Module, body: nn.Module, lesson: Lesson, task: Task
    ) -> list[float]:
        """Trains the body, again at half the rate where it diverged; returns the rates."""
        start = copy.deepcopy(student.state_dict())  # with the versions that modules ask for
        yardstick = Yardstick(task.teacher, task.images, task.batch_size)
        distance_start = yardstick.distance(student)
        kept = TrainingState(task.journal)
        found = kept.find()
        rates = [self.learning_rate / 2**retry for retry in range(self.max_retries + 1)]
        first = 0 if found is None else found[1]["retry"]
        for retry in range(first, len(rates)):
            student.load_state_dict(start)
            with own_draws(task.seed, task.images.device):
                mimicry = Mimicry(body, lesson, rates[retry])
                if found is not None:
                    mimicry.restore(found)
                    found = None
                finite = _run(mimicry, kept, retry, task)
            distance = yardstick.distance(student)
            if finite and is_sound(distance, distance_start):
                return rates[: retry + 1]
        if not (finite and math.isfinite(distance)):
            tried = ", ".join(f"{rate:g}" for rate in rates)
            raise ValueError(
                "learning_rate must be small enough for the student of MiR to stay finite, "
                f"got {self.learning_rate:g}; tried {tried}"
            )
        return rates


def _run(mimicry: Mimicry, kept: TrainingState, retry: int, task: Task) -> bool:
    """Takes all steps; False, and earlier, where the loss is not finite."""
    steps = mimicry.lesson.steps
    while mimicry.step < steps:
        loss = mimicry.advance()
        if task.progress is not None:
            what = f", rate {mimicry.learning_rate:g}" if retry else ""
            task.progress(f"mimicking features{what}", mimicry.step, steps)
        # Asked now and then only: a GPU would have to wait for the answer.
        if mimicry.step % _STEPS_BETWEEN_LOOKS == 0 or mimicry.step == steps:
            if not loss.isfinite():
                return False
            if mimicry.step < steps:
                tensors, counts = mimicry.state()
                kept.keep(tensors, counts | {"retry": retry})
    return True


def _in_words(rates: list[float]) -> list[str]:
    """What is to be said where more than one run was needed."""
    if len(rates) == 1:
        return []
    diverged = ", ".join(f"{rate:g}" for rate in rates[:-1])
    return [f"MiR diverged at a learning rate of {diverged} and was run again at {rates[-1]:g}"]
