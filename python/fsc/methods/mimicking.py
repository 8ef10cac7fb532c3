"""A student's layers trained on the features of a teacher, step by step, to be stopped anywhere."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsc.methods.training_state import State


@dataclass(frozen=True)
class Lesson:
    """What is to be mimicked, and how.

    Args:
        images: [2, N, C, H, W], as they are and mirrored, or [1, N, ...] as they are alone.
        targets: the teacher's features of them before each head, [2, N, ...] or [1, N, ...].
        steps: minibatches.
        batch_size: images of a minibatch; all of them where there are fewer.
        momentum: of SGD.
        weight_decay: of SGD.
        seed: of order, mirroring and dropout.
    """

    images: Tensor
    targets: Sequence[Tensor]
    steps: int
    batch_size: int
    momentum: float
    weight_decay: float
    seed: int


class Mimicry:
    """Minimises the mean squared error of the features (MiR, Eq. 5) by SGD.

    Args:
        body: the layers to train, in place; they are put in train mode. It gives the features
            before each head.
        lesson: what is to be mimicked.
        learning_rate: of SGD; falls tenfold after 40 % and 80 % of the steps.
    """

    def __init__(self, body: nn.Module, lesson: Lesson, learning_rate: float) -> None:
        """Starts from the body as it is."""
        self.body = body.train()
        self.lesson = lesson
        self.learning_rate = learning_rate
        self.step = 0
        self._optimizer = torch.optim.SGD(
            body.parameters(),
            lr=learning_rate,
            momentum=lesson.momentum,
            weight_decay=lesson.weight_decay,
        )
        self._milestones = [math.ceil(0.4 * lesson.steps), math.ceil(0.8 * lesson.steps)]
        self._generator = torch.Generator().manual_seed(lesson.seed)
        self._order = torch.empty(0, dtype=torch.int64)  # images of this pass still to come

    def advance(self) -> Tensor:
        """One step; returns the loss before it."""
        lesson = self.lesson
        if not len(self._order):
            count = lesson.images.shape[1]
            self._order = torch.randperm(count, generator=self._generator, device="cpu")
        chosen = self._order[: lesson.batch_size]
        self._order = self._order[lesson.batch_size :]
        views = len(lesson.images)
        mirrored = torch.randint(views, (len(chosen),), generator=self._generator, device="cpu")
        drawn = mirrored.to(lesson.images.device), chosen.to(lesson.images.device)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate()
        with torch.enable_grad():
            images = lesson.images[drawn].to(memory_format=_fastest(lesson.images))
            features = self.body(images)
            errors = [
                nn.functional.mse_loss(found, wanted[drawn])
                for found, wanted in zip(features, lesson.targets, strict=True)
            ]
            loss = torch.stack(errors).mean()
            self._optimizer.zero_grad()
            loss.backward()
        self._optimizer.step()
        self.step += 1
        return loss.detach()

    def _rate(self) -> float:
        """The learning rate of the next step."""
        rate = self.learning_rate
        for milestone in self._milestones:
            if self.step >= milestone:
                rate *= 0.1
        return rate

    def state(self) -> State:
        """All that the steps to come depend on, beside the lesson and the rate."""
        tensors = {f"body.{key}": value for key, value in self.body.state_dict().items()}
        for index, parameter in enumerate(self.body.parameters()):
            momentum = self._optimizer.state[parameter].get("momentum_buffer")
            if momentum is not None:
                tensors[f"momentum.{index}"] = momentum
        tensors["order"] = self._order
        tensors["generator"] = self._generator.get_state()
        tensors["dropout"] = _default_state(self.lesson.images.device)
        return tensors, {"step": self.step}

    def restore(self, state: State) -> None:
        """Goes on where another one stopped."""
        tensors, counts = state
        body = {
            key.removeprefix("body."): value
            for key, value in tensors.items()
            if key.startswith("body.")
        }
        self.body.load_state_dict(body)
        for index, parameter in enumerate(self.body.parameters()):
            if f"momentum.{index}" in tensors:
                momentum = torch.empty_like(parameter).copy_(tensors[f"momentum.{index}"])
                self._optimizer.state[parameter]["momentum_buffer"] = momentum
        self._order = tensors["order"]
        self._generator.set_state(tensors["generator"])
        _set_default_state(self.lesson.images.device, tensors["dropout"])
        self.step = counts["step"]


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


@contextmanager
def fast_layout(body: nn.Module, images: Tensor) -> Iterator[None]:
    """Puts weights in the memory format in which a step takes least, and back afterwards."""
    weights = [parameter for parameter in body.parameters() if parameter.ndim == 4]
    before = [weight.data for weight in weights]
    for weight in weights:
        weight.data = weight.data.to(memory_format=_fastest(images))
    try:
        yield
    finally:
        for weight, values in zip(weights, before, strict=True):
            weight.data = torch.empty_like(values).copy_(weight.data)


def _fastest(images: Tensor) -> torch.memory_format:
    """On a CPU oneDNN computes with channels last, and would reorder every value otherwise."""
    of_two_dimensions = images.ndim == 5  # [2, N, C, H, W]
    if of_two_dimensions and images.device.type == "cpu":
        return torch.channels_last
    return torch.preserve_format


@contextmanager
def own_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Seeds the generator that dropout draws from, and gives it its state back afterwards."""
    before = _default_state(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        _set_default_state(device, before)


def _default_state(device: torch.device) -> Tensor:
    is_cuda = device.type == "cuda"
    return torch.cuda.get_rng_state(device) if is_cuda else torch.default_generator.get_state()


def _set_default_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.default_generator.set_state(state)
