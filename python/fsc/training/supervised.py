"""Plain supervised training, with a penalty on the scales of BatchNorms where it is asked for."""

from __future__ import annotations

import math
import os

import torch
from torch import Tensor, nn

from fsc.arguments import as_count, as_flag, as_integer, as_number, as_rate
from fsc.images.augmentation import randomly_mirrored
from fsc.images.checks import check_images, device_of
from fsc.images.labels import check_labels
from fsc.networks.operations import BATCH_NORM
from fsc.networks.states import check_holds_values
from fsc.progress import Progress
from fsc.training.resumption import TrainingFile, identity_of


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    scale_penalty: float = 0.0,
    shift: int = 1,
    mirror: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    state_file: str | os.PathLike[str] | None = None,
) -> None:
    r"""Train a network in place to name the classes of labelled images.

    Cross-entropy, SGD with Nesterov momentum, one cycle of the learning rate, and every image moved
    by a few pixels in each direction. The network is in evaluation mode afterwards.

    With a penalty it is the sparse training of network slimming (Liu et al., ICCV 2017, Eq. 1), for
    `fsc.schemes.slimming`:

    .. math:: \min_W \mathrm{CE}(f(x), y) + \lambda \sum_\gamma |\gamma|

    Args:
        model: maps [N, C, H, W] to class scores [N, num_classes].
        images: normalised images, floating point [N, C, H, W], N at least 2; moved, with the
            labels, to the device of the network.
        labels: class indices, integers [N].
        epochs: passes over the images.
        batch_size: images a step, at least 2 because of batch normalization; a smaller rest at the
            end of an epoch is left out.
        learning_rate: the highest of the cycle.
        scale_penalty: lambda, whose subgradient is added to that of the scales of all BatchNorms;
            the paper's is 1e-4.
        shift: pixels that images are moved by at most.
        mirror: whether every other image, drawn anew in each epoch, is mirrored.
        seed: of the order and the shifts; the same seed gives the same bits on the same threads.
        progress: called with (description, epochs done, epochs in all) after each epoch.
        state_file: where the state is kept after each epoch. A call with the same arguments and
            the same initial weights goes on after the last of them, with the bits of an
            uninterrupted run where the network draws nothing itself, as dropout does.

    Warns:
        CompressionWarning: the state file is damaged; the training starts from the beginning.

    Raises:
        ValueError: a count is too small, the penalty is negative or has no scale to act on, the
            images are of a wrong form or not finite, images and labels do not fit together, or the
            state file belongs to another training.
        TypeError: an argument is of the wrong type.
        OSError: the state file cannot be written.
    """
    check_holds_values("train: model", model)
    images, labels = _taken(model, images, labels)
    device = images.device
    epochs, seed = as_count("train: epochs", epochs), as_integer("train: seed", seed)
    batch_size = _as_batch_size(batch_size, len(images))
    learning_rate = as_rate("train: learning_rate", learning_rate)
    scale_penalty = _as_penalty(scale_penalty)
    scales = _penalised(model, scale_penalty)
    shift, mirror = _as_shift(shift, images), as_flag("train: mirror", mirror)
    settings = {"epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    settings |= {"scale_penalty": scale_penalty, "shift": shift, "mirror": mirror, "seed": seed}
    file = None
    if state_file is not None:
        file = TrainingFile(state_file, identity_of(model, images, labels, settings))
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    steps = epochs * (len(images) // batch_size)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, cycle_momentum=False
    )
    generator = torch.Generator().manual_seed(seed)
    begun = 0
    if file is not None:
        # The rate of the next step follows from the number of the last one.
        begun, scheduler.last_epoch = file.take_up(model, optimizer, generator)
    model.train()
    for epoch in range(begun, epochs):
        order = torch.randperm(len(images), generator=generator, device="cpu").to(device)  # [N]
        for chosen in order[: len(images) // batch_size * batch_size].split(batch_size):
            views = _shifted(images[chosen], generator, shift)
            views = randomly_mirrored(views, generator) if mirror else views
            _step(model, optimizer, views, labels[chosen], scales, scale_penalty)
            scheduler.step()
        if file is not None:
            file.keep(model, optimizer, generator, epoch + 1, scheduler.last_epoch)
        if progress is not None:
            progress("epoch", epoch + 1, epochs)
    model.eval()


def _taken(model: nn.Module, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both where the network is, labels as the loss takes them."""
    check_images("train", images, min_images=2)
    check_labels("train", labels, len(images))
    device = device_of(model, images)
    return images.to(device), labels.to(device).long()


def _as_penalty(value: float) -> float:
    found = as_number("train: scale_penalty", value)
    if not 0 <= found < math.inf:
        raise ValueError(f"train: scale_penalty must be finite and at least 0, got {found}")
    return found


def _penalised(model: nn.Module, scale_penalty: float) -> list[nn.Parameter]:
    """The scales that a penalty acts on; none where there is no penalty."""
    if scale_penalty == 0:
        return []
    norms = [module for module in model.modules() if isinstance(module, BATCH_NORM)]
    scales = [norm.weight for norm in norms if norm.affine and norm.weight.requires_grad]
    if not scales:
        raise ValueError(
            "train: scale_penalty must go with a model that has BatchNorms with scales to train, "
            f"got {scale_penalty:g} for {type(model).__name__}, which has none"
        )
    return scales


def _step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    scales: list[nn.Parameter],
    scale_penalty: float,
) -> None:
    """One step of SGD, the subgradient of the penalty among the gradients."""
    scores = model(images)  # [batch_size, num_classes]
    optimizer.zero_grad()
    nn.functional.cross_entropy(scores, labels).backward()
    for scale in scales:
        if scale.grad is not None:  # of a norm that is called
            scale.grad.add_(scale.detach().sign(), alpha=scale_penalty)
    optimizer.step()


def _shifted(images: Tensor, generator: torch.Generator, shift: int) -> Tensor:
    """The images, each moved by up to some pixels along both axes; the border is repeated."""
    count, _, height, width = images.shape
    border = (shift,) * 4
    padded = nn.functional.pad(images, border, mode="replicate")  # [N, C, H + 2 s, W + 2 s]
    draws = torch.randint(2 * shift + 1, (2, count, 1), generator=generator, device="cpu")
    top, left = draws.to(images.device)  # [N, 1] each
    rows = top + torch.arange(height, device=images.device)  # [N, H]
    columns = left + torch.arange(width, device=images.device)  # [N, W]
    which = torch.arange(count, device=images.device)[:, None, None]  # [N, 1, 1]
    moved = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]  # [N, H, W, C]
    return moved.permute(0, 3, 1, 2).contiguous()


def _as_shift(value: int, images: Tensor) -> int:
    found, most = as_integer("train: shift", value), min(images.shape[2:])
    if not 0 <= found <= most:
        raise ValueError(
            f"train: shift must be from 0 to {most}, the pixels of an image, got {found}"
        )
    return found


def _as_batch_size(value: int, num_images: int) -> int:
    """No more than there are images."""
    found = as_integer("train: batch_size", value)
    if found < 2:
        raise ValueError(f"train: batch_size must be at least 2, got {found}")
    return min(found, num_images)
