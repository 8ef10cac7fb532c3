"""How methods that train do it: SGD, and again at half the rate where it diverges."""

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from fsc import ranks
from fsc.arguments import as_rate, check_fields
from fsc.methods.base import Task
from fsc.methods.lesson import Learner, Lesson, all_trainable
from fsc.methods.memory_layout import fast_layout
from fsc.methods.soundness import Yardstick, is_sound, not_finite
from fsc.methods.training_state import TrainingState, put_back
from fsc.methods.views import Kind, check_kind, judged_images
from fsc.networks.draws import own_draws
from fsc.wording import shown

_logger = logging.getLogger(__name__)

# At each the loss is looked at, and the state kept where there is a journal.
_STEPS_BETWEEN_LOOKS = 50
# Whoever asked for the loss makes a device wait for it; at every step that would cost time.
_STEPS_BETWEEN_LOGS = 10

# Of their norm, that weights move by at a step.
_LARGEST_SHARE = 0.01

Precision = Literal["float32", "bfloat16"]
# What a schedule may say in words.
_WORDS = {
    "decay": ("steps", "cosine"),
    "batch_norm": ("train", "frozen"),
    "precision": ("float32", "bfloat16"),
}

# What is trained and what it learns, made when its turn comes: what came before has changed it.
Part = Callable[[], tuple[nn.Module, Lesson]]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """SGD as the MiR paper has it for all methods that train.

    Args:
        steps: minibatches; the paper's 2000.
        batch_size: images of a minibatch; all of them where there are fewer.
        learning_rate: of SGD.
        decay: of the learning rate: "steps" divides it by ten after 40 % and 80 % of the steps,
            "cosine" takes it to zero along half a wave.
        warm_up: steps over which the rate rises to what it is.
        momentum: of SGD.
        weight_decay: of SGD.
        clip_norm: largest norm of a step's gradient, all weights together; longer ones are scaled
            down, before they are preconditioned. None: as they are.
        precondition: gradients of convolutions and Linears are multiplied by the inverse second
            moments of what the layer reads, measured before the first step and damped by so much,
            see `fsc.methods.preconditioner`: fewer steps are needed. None: they are not.
        relative: every tensor of weights moves by a share of its norm, the learning rate, however
            long its gradient is, with the momentum of Nesterov, see `fsc.methods.relative_sgd`. The
            rate is at most 0.01 then; 0.0015 is a good one for students that were solved before.
        batch_norm: "train" normalises by the minibatch, of several processes each by its part of
            it; "frozen" by the running statistics, and dropout is off then.
        max_retries: how often the training starts again at half the rate, where it diverged.
        views: "mirrored": the images and their mirror images; "crops": other parts of them at every
            step, resized to the whole and mirrored one time in two, as is usual for ImageNet. The
            teacher is run on each. "hard": others at every step likewise, moved, recoloured and
            mixed, see `fsc.images.hard_augmentation`; not with labels. "original-crops": other
            parts of the files that the images were made from, at their own resolution, see
            `fsc.images.original_crops`; images are then an `fsc.images.folder.ImageFolder`, or a
            Subset of one.
        precision: "bfloat16" runs the student and its loss under `torch.autocast`; weights,
            gradients, SGD and what the teacher gives stay float32. It helps on GPUs and processors
            that compute with bfloat16 (AVX-512 BF16, AMX); on another processor a step takes 4 to
            10 times as long.

    Raises:
        ValueError: a value is out of its range.
    """

    steps: int = 2000
    batch_size: int = 64
    learning_rate: float = 1e-3
    decay: Literal["steps", "cosine"] = "steps"
    warm_up: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float | None = None
    precondition: float | None = None
    relative: bool = False
    batch_norm: Literal["train", "frozen"] = "train"
    max_retries: int = 3
    views: Kind = "mirrored"
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        """Refuses values that no training can use."""
        check_fields(self)
        check_kind(self.views)
        for name in ("steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        as_rate("learning_rate", self.learning_rate)
        self.check_share("learning_rate", self.learning_rate)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if not 0 <= self.weight_decay < math.inf:
            raise ValueError(f"weight_decay must be finite and at least 0, got {self.weight_decay}")
        for name in ("max_retries", "warm_up"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        for name in ("clip_norm", "precondition"):
            if getattr(self, name) is not None:
                as_rate(name, getattr(self, name))
        for name, known in _WORDS.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} must be {' or '.join(known)}, got {shown(getattr(self, name))}"
                )

    def check_share(self, name: str, rate: float) -> None:
        """Make sure that a rate is small enough where it is a share of the norm of weights.

        Raises:
            ValueError: it is not.
        """
        if self.relative and rate > _LARGEST_SHARE:
            raise ValueError(
                f"{name} must be at most {_LARGEST_SHARE} where relative is True, as a share of "
                f"the norm of weights, got {rate}"
            )

    def rate_at(self, rate: float, step: int, steps: int) -> float:
        """The learning rate of one step of so many, the first being step 0."""
        rate *= min(1.0, (step + 1) / (self.warm_up + 1))
        if self.decay == "cosine":
            return rate * (1 + math.cos(math.pi * step / steps)) / 2
        for part in (0.4, 0.8):
            if step >= math.ceil(part * steps):
                rate *= 0.1
        return rate


class NeverFinite(ValueError):
    """A training diverged at every rate."""


def trained(
    student: nn.Module,
    parts: Sequence[Part],
    schedule: Schedule,
    task: Task,
    *,
    stays_near: bool = True,
    start: nn.Module | None = None,
    yardstick: Yardstick | None = None,
) -> list[float]:
    """Train a student in place, part after part, all again at half the rates where it diverged.

    Args:
        student: the network; it is left in evaluation mode.
        parts: what is trained, in order.
        schedule: the method.
        task: teacher, images, seed, journal and progress.
        stays_near: whether outputs farther from the teacher's than before the first step are a
            divergence; labels may well lead away from a teacher.
        start: the network whose outputs these are; None: the student as it is given.
        yardstick: of the teacher on the images that the student is judged by, where there is one.

    Returns:
        The learning rate of every run; the student is that of the last.

    Raises:
        NeverFinite: it was not finite at any rate.
    """
    given = copy.deepcopy(student.state_dict())  # with the versions that modules ask for
    if yardstick is None:
        yardstick = judging(schedule, task)
    distance_start = yardstick.distance(student if start is None else start)
    run = _Run(student, parts, task)
    rates = [schedule.learning_rate / 2**retry for retry in range(schedule.max_retries + 1)]
    for retry in range(run.first_retry, len(rates)):
        student.load_state_dict(given)
        finite = run.take(retry)
        student.eval()
        distance = yardstick.distance(student)
        finite = finite and math.isfinite(distance) and not_finite(student) is None
        if finite and (not stays_near or is_sound(distance, distance_start)):
            return rates[: retry + 1]
        if ranks.is_first():
            _logger.info("%s diverged at a rate of %g", type(schedule).__name__, rates[retry])
    if not finite:
        tried = ", ".join(f"{rate:g}" for rate in rates)
        raise NeverFinite(
            f"learning_rate must be small enough for the student of {type(schedule).__name__} to "
            f"stay finite, got {schedule.learning_rate:g}; tried {tried}"
        )
    return rates


def judging(schedule: Schedule, task: Task) -> Yardstick:
    """The teacher's outputs for the images by which a student of a schedule is judged."""
    return Yardstick(task.teacher, judged_images(schedule, task), task.batch_size)


def in_words(method: Schedule, rates: list[float]) -> list[str]:
    """What is to be said where more than one run was needed."""
    if len(rates) == 1:
        return []
    diverged = ", ".join(f"{rate:g}" for rate in rates[:-1])
    name = type(method).__name__
    return [f"{name} diverged at a learning rate of {diverged} and was run again at {rates[-1]:g}"]


class _Run:
    """The parts of a training, with the state that an interrupted one left behind."""

    def __init__(self, student: nn.Module, parts: Sequence[Part], task: Task) -> None:
        self.student, self.parts, self.task = student, parts, task
        self._kept = TrainingState(task.journal)
        self._found = self._kept.find()
        self.first_retry = 0 if self._found is None else self._found[1]["retry"]
        # Steps of all parts and runs, by which a log is ordered.
        self._taken = 0 if self._found is None else self._found[1]["taken"]

    def take(self, retry: int) -> bool:
        """Takes all steps of all parts; False, and earlier, where a loss is not finite."""
        device = self.task.images.device
        found, self._found = self._found, None
        first = 0 if found is None else found[1]["part"]
        with own_draws(self.task.seed, device):
            for number in range(first, len(self.parts)):
                if found is not None:
                    # Before the part is made: it may be made of what was trained before it.
                    put_back(self.student, found[0])
                body, lesson = self.parts[number]()
                with all_trainable(body), fast_layout(body, lesson.views.example) as layout:
                    learner = Learner(self.student, body, lesson, 0.5**retry, layout)
                    if found is not None:
                        learner.restore(found)
                        found = None
                    if not self._finish(learner, number, retry):
                        return False
        return True

    def _finish(self, learner: Learner, number: int, retry: int) -> bool:
        lesson, progress = learner.lesson, self.task.progress
        while learner.step < lesson.steps:
            loss = learner.advance()
            self._taken += 1
            self._log(learner, loss)
            if progress is not None:
                rate = f", rate {learner.learning_rate:g}" if retry else ""
                progress(f"{lesson.what}{rate}, step", learner.step, lesson.steps)
            # Asked now and then only: a GPU would have to wait for the answer.
            if learner.step % _STEPS_BETWEEN_LOOKS == 0 or learner.step == lesson.steps:
                ranks.add_up(loss)
                if not loss.isfinite():
                    return False
                if _logger.isEnabledFor(logging.DEBUG) and ranks.is_first():
                    done = (lesson.what, learner.step, lesson.steps)
                    mean = loss.item() / ranks.count()
                    _logger.debug("%s, step %d of %d: loss %.4g", *done, mean)
                if learner.step < lesson.steps:
                    tensors, counts = learner.state()
                    place = {"retry": retry, "part": number, "taken": self._taken}
                    self._kept.keep(tensors, counts | place)
        ranks.make_alike(learner.body)
        learner.body.zero_grad(set_to_none=True)
        return True

    def _log(self, learner: Learner, loss: Tensor) -> None:
        """Tell the loss of a step, where it was asked for and it is its turn."""
        lesson, log = learner.lesson, self.task.log
        is_last = learner.step == lesson.steps
        if log is None or (learner.step % _STEPS_BETWEEN_LOGS and not is_last):
            return
        rate = lesson.schedule.rate_at(learner.learning_rate, learner.step - 1, lesson.steps)
        log({"loss": loss.item(), "learning_rate": rate}, self._taken)
