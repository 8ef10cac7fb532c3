"""Back-propagation after compression: with labels, masks kept; and BatchNorm's statistics anew."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fsc.arguments import as_count, as_integer, check_fields
from fsc.images.checks import check_images, device_of
from fsc.images.labels import check_labels, check_range
from fsc.networks.entry import check_runs
from fsc.networks.modes import evaluation_mode
from fsc.networks.states import check_holds_values
from fsc.progress import Progress
from fsc.training.zeros import Zeros

# What BatchNorms of torch say of a single value; the network may refuse something else itself.
_SINGLE_VALUE = "Expected more than 1 value per channel when training"


@dataclass(frozen=True)
class FineTuning:
    """Cross entropy on a few labelled images; weights that are zero stay zero.

    The baseline "BP" of Cross Distillation (Bai et al., 2020), whose released code lets pruned
    weights come back with the first step. Modules stay in evaluation mode: a handful of images
    makes poor batch statistics.

    Only zeros are kept: the few values of a quantized weight do not survive.

    Lifecycle:
        1. copy the student and remember where its convolutions and linear layers are zero;
        2. epochs of SGD with momentum, every image once an epoch, in a seeded order;
        3. after each step set to zero again what was zero.

    Args:
        epochs: passes over the images.
        learning_rate: of SGD.
        momentum: of SGD, in [0, 1).
        weight_decay: of SGD.
        batch_size: images a step.

    Raises:
        ValueError: a value is out of its range.
    """

    epochs: int = 20
    learning_rate: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch_size: int = 64

    def __post_init__(self) -> None:
        """Refuses values that no training can follow."""
        check_fields(self)
        rules = {
            "epochs must be at least 1": (self.epochs >= 1, self.epochs),
            "learning_rate must be finite and above 0": (
                0 < self.learning_rate < math.inf,
                self.learning_rate,
            ),
            "momentum must be in [0, 1)": (0 <= self.momentum < 1, self.momentum),
            "weight_decay must be finite and at least 0": (
                0 <= self.weight_decay < math.inf,
                self.weight_decay,
            ),
            "batch_size must be at least 1": (self.batch_size >= 1, self.batch_size),
        }
        for rule, (holds, value) in rules.items():
            if not holds:
                raise ValueError(f"{rule}, got {value}")

    def run(
        self,
        student: nn.Module,
        images: Tensor,
        labels: Tensor,
        *,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> nn.Module:
        """Fine-tunes a copy of a student.

        Args:
            student: maps [N, C, H, W] to class scores [N, num_classes]; it is not changed. Images
                and labels are moved to its device.
            images: normalised images [N, C, H, W].
            labels: class indices, integers [N].
            seed: of the order; the same seed gives the same bits on the same threads.
            progress: called with (description, epochs done, epochs in all).

        Returns:
            The fine-tuned copy in eval mode.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: images and labels do not fit together, the student does not run on the
                images or has nothing to train, or the weights diverge.
        """
        check_holds_values("FineTuning: student", student)
        if not any(parameter.requires_grad for parameter in student.parameters()):
            raise ValueError(
                "FineTuning: student must have parameters that require gradients, got none, as a "
                "frozen teacher's has; call student.requires_grad_()"
            )
        check_images("FineTuning", images, student)
        check_labels("FineTuning", labels, len(images))
        seed = as_integer("FineTuning: seed", seed)
        device = device_of(student, images)
        images, labels = images.to(device), labels.to(device).long()
        check_runs("FineTuning", images, student, self.batch_size)
        tuned = copy.deepcopy(student).eval()
        zeros = Zeros(tuned)
        optimizer = torch.optim.SGD(
            tuned.parameters(),
            lr=self.learning_rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )
        generator = torch.Generator().manual_seed(seed)
        for epoch in range(self.epochs):
            order = torch.randperm(len(images), generator=generator, device="cpu").to(device)  # [N]
            for chosen in order.split(self.batch_size):
                _step(tuned, optimizer, images[chosen], labels[chosen])
                zeros.restore()
            if progress is not None:
                progress("epoch", epoch + 1, self.epochs)
        if not all(parameter.isfinite().all() for parameter in tuned.parameters()):
            raise ValueError(
                "learning_rate must be small enough for the weights to stay finite, "
                f"got {self.learning_rate}"
            )
        return tuned


def _step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor
) -> None:
    with torch.enable_grad():
        scores = model(images)  # [B, num_classes]
        check_range("FineTuning", labels, scores.shape[1])
        optimizer.zero_grad()
        nn.functional.cross_entropy(scores, labels).backward()
    optimizer.step()


def recalibrate_batch_norm(
    student: nn.Module, images: Tensor, *, batch_size: int = 64
) -> nn.Module:
    """Takes the running statistics of every BatchNorm anew from some images.

    Args:
        student: a network with BatchNorm; it is not changed.
        images: normalised images [N, C, H, W]; moved to the device of the student.
        batch_size: images in one pass; the statistics are the mean over the passes.

    Returns:
        A copy in eval mode; its parameters are those of the student.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: the student has no BatchNorm with running statistics or does not run on the
            images, batch_size is below 1, or a BatchNorm sees one value a channel in a pass.
    """
    check_holds_values("recalibrate_batch_norm: student", student)
    check_images("recalibrate_batch_norm", images, student)
    batch_size = as_count("recalibrate_batch_norm: batch_size", batch_size)
    found = copy.deepcopy(student)
    norms = [
        module
        for module in found.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
    ]
    if not norms:
        raise ValueError(
            "recalibrate_batch_norm: student must have BatchNorm with running statistics, got "
            f"{type(student).__name__} without; cross distillation folds it and matches the "
            "statistics itself"
        )
    check_runs("recalibrate_batch_norm", images, student, batch_size)
    with evaluation_mode(found), torch.no_grad():
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # The mean over all passes.
            norm.train()
        for batch in images.split(batch_size):
            _run_for_statistics(found, batch.to(device_of(student, images), copy=True))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return found.eval()


def _run_for_statistics(network: nn.Module, batch: Tensor) -> None:
    """Run a network on its own copy of some images, BatchNorm in train mode."""
    try:
        network(batch)
    except ValueError as error:
        if not str(error).startswith(_SINGLE_VALUE):
            raise
        raise ValueError(
            "recalibrate_batch_norm: images must give every BatchNorm more than one value a "
            f"channel in a pass, got {list(batch.shape)} in one: {error}"
        ) from error
