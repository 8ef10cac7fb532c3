"""A student trained on what a lesson holds, step by step, to be stopped anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.methods.minibatches import Minibatches, Views
from fsc.methods.preconditioner import Preconditioner
from fsc.methods.relative_sgd import RelativeSGD
from fsc.methods.training_state import State, values_of
from fsc.networks.draws import draws_of, set_draws
from fsc.networks.modes import evaluation_mode
from fsc.networks.outputs import tensors_of

if TYPE_CHECKING:
    from fsc.methods.schedule import Schedule

# What a network gives for a minibatch, and what it should give -> a number.
Loss = Callable[[Sequence[Tensor], Sequence[Tensor]], Tensor]
# Images on which the inputs of layers are measured.
_MEASURED = 256


@dataclass(frozen=True)
class Lesson:
    """What a network is to learn, and how.

    Args:
        what: is done, in words.
        views: what it reads, and what it is to give.
        loss: of what the network gives for a minibatch, and of its targets.
        steps: minibatches.
        learning_rate: of SGD.
        schedule: the rest of SGD.
        seed: of order, views and dropout.
    """

    what: str
    views: Views
    loss: Loss
    steps: int
    learning_rate: float
    schedule: Schedule
    seed: int


class Learner:
    """Minimises the loss of a lesson by SGD.

    Args:
        student: the whole network, whose state is kept.
        body: what is trained of it, in place; it is put in train mode, unless BatchNorm is frozen.
        lesson: what is to be learned.
        share: of the lesson's learning rate.
        layout: in memory, of the images that it is given.

    Raises:
        ValueError: a BatchNorm in train mode would see one value of a channel.
    """

    def __init__(
        self,
        student: nn.Module,
        body: nn.Module,
        lesson: Lesson,
        share: float = 1.0,
        layout: torch.memory_format = torch.preserve_format,
    ) -> None:
        """Starts from the student as it is."""
        _check_norms(body, lesson)
        self._layout = layout
        self.student = student
        self.body = body.train(lesson.schedule.batch_norm == "train")
        self._parallel = ranks.parallel(self.body)
        self.lesson = lesson
        self.learning_rate = share * lesson.learning_rate
        self.step = 0
        optimizer = RelativeSGD if lesson.schedule.relative else torch.optim.SGD
        self._optimizer = optimizer(
            body.parameters(),
            lr=self.learning_rate,
            momentum=lesson.schedule.momentum,
            weight_decay=lesson.schedule.weight_decay,
        )
        damping = lesson.schedule.precondition
        self._preconditioner = None if damping is None else Preconditioner(body, damping)
        size = lesson.schedule.batch_size
        self._minibatches = Minibatches(lesson.views, size, lesson.steps, lesson.seed)

    def advance(self) -> Tensor:
        """One step; returns the loss before it, of this rank's part of the minibatch."""
        lesson = self.lesson
        if self._preconditioner is not None and not self._preconditioner.is_measured:
            self._measure(self._preconditioner)
        given = self._minibatches.take(self._layout)
        for group in self._optimizer.param_groups:
            group["lr"] = lesson.schedule.rate_at(self.learning_rate, self.step, lesson.steps)
        with torch.enable_grad(), ranks.listening():
            with _precision(lesson.schedule.precision, given.images.device):
                loss = lesson.loss(tensors_of(self._parallel(given.images)), given.wanted)
            self._optimizer.zero_grad()
            if ranks.count() > 1:
                # Losses are means over images, gradients then means over ranks.
                (loss * (given.share * ranks.count())).backward()
            else:
                loss.backward()
        if lesson.schedule.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.body.parameters(), lesson.schedule.clip_norm)
        if self._preconditioner is not None:
            self._preconditioner.apply()
        self._optimizer.step()
        self.step += 1
        return loss.detach()

    def _measure(self, preconditioner: Preconditioner) -> None:
        """What the layers read of some images, by which their gradients are multiplied."""
        views = self.lesson.views
        generator = torch.Generator().manual_seed(self.lesson.seed)
        chosen = torch.randperm(views.count, generator=generator, device="cpu")[:_MEASURED]

        def drawn() -> Iterator[Tensor]:
            for few in chosen.split(self.lesson.schedule.batch_size):
                # As in a step: all ranks draw the same views, and each takes its part of them.
                own = ranks.own(len(few))
                if own.stop > own.start:
                    yield views.draw(few, generator, self._layout, own)[0]

        preconditioner.measure(drawn())

    def state(self) -> State:
        """All that the steps to come depend on, beside the lesson and the rate."""
        # All of the student, not the body alone: lessons before this one have trained the rest.
        tensors = values_of(self.student)
        for index, parameter in enumerate(self.body.parameters()):
            momentum = self._optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{index}"] = momentum
        if self._preconditioner is not None:
            tensors |= self._preconditioner.state()
        tensors |= self._minibatches.state()
        tensors["dropout"] = draws_of(self.lesson.views.example.device)
        return tensors, {"step": self.step}

    def restore(self, state: State) -> None:
        """Goes on where another one stopped; the student has its weights already.

        Raises:
            ValueError: the state is not of such a lesson.
        """
        try:
            self._restore(*state)
        except (KeyError, RuntimeError, TypeError) as error:
            raise ValueError(
                "journal must hold the training that goes on, got a state that does not fit it "
                f"({error}); give another folder, or delete this one"
            ) from error

    def _restore(self, tensors: Mapping[str, Tensor], counts: Mapping[str, int]) -> None:
        for index, parameter in enumerate(self.body.parameters()):
            if f"momentum.{index}" in tensors:
                momentum = torch.empty_like(parameter).copy_(tensors[f"momentum.{index}"])
                self._optimizer.state[parameter]["momentum_buffer"] = momentum
        if self._preconditioner is not None:
            self._preconditioner.restore(tensors)
        self._minibatches.restore(tensors, counts["step"])
        set_draws(self.lesson.views.example.device, tensors["dropout"])
        self.step = counts["step"]


def _check_norms(body: nn.Module, lesson: Lesson) -> None:
    """Make sure that what normalises by the minibatch always sees more than one value.

    Raises:
        ValueError: a minibatch is a single image, of which a BatchNorm sees a single pixel.
    """
    schedule, count = lesson.schedule, lesson.views.count
    size = min(schedule.batch_size, count)
    last = count % size if lesson.steps >= math.ceil(count / size) else 0
    fewest = min(size, last) if last else size
    if schedule.batch_norm != "train" or fewest // ranks.count() > 1:
        return
    name = _sees_one_value(body, lesson.views.example)
    if name is not None:
        raise ValueError(
            f"images must fill minibatches of two or more, as BatchNorm {name!r} sees one pixel of "
            f"each and normalises by the minibatch, got {count} in minibatches of {size}; give "
            "more or fewer, or the method another batch_size or batch_norm='frozen'"
        )


@torch.no_grad()
def _sees_one_value(body: nn.Module, example: Tensor) -> str | None:
    """The first BatchNorm that sees one value of every channel of an image."""
    found = []

    def look(name: str, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        if given[0].numel() == given[0].shape[1]:
            found.append(name)

    hooks = [
        module.register_forward_pre_hook(partial(look, name))
        for name, module in body.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    ]
    try:
        with evaluation_mode(body):
            body(example)
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else None


def _precision(name: str, device: torch.device) -> AbstractContextManager[object]:
    """What a network and its loss are to be run in; float32 leaves things as they are."""
    if name == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def all_trainable(body: nn.Module) -> Iterator[None]:
    """Takes gradients of parameters that were frozen, too, and freezes those again afterwards."""
    frozen = [parameter for parameter in body.parameters() if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)
