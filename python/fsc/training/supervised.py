"""Plain supervised training of a teacher, for the demonstration that needs no checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fsc.images.checks import check_images, device_of
from fsc.progress import Progress


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epochs: int,
    batch_size: int = 64,
    learning_rate: float = 0.1,
    seed: int = 0,
    progress: Progress | None = None,
) -> None:
    """Train a network in place to name the classes of labelled images.

    Cross-entropy, SGD with Nesterov momentum, one cycle of the learning rate, and every image moved
    by up to one pixel in each direction. The network is in evaluation mode afterwards.

    Args:
        model: maps [N, C, H, W] to class scores [N, num_classes].
        images: normalised images, floating point [N, C, H, W], N at least 2; moved, with the
            labels, to the device of the network.
        labels: class indices, integers [N].
        epochs: passes over the images.
        batch_size: images a step, at least 2 because of batch normalization; a smaller rest at the
            end of an epoch is left out.
        learning_rate: the highest of the cycle.
        seed: of the order and the shifts; the same seed gives the same bits on the same threads.
        progress: called with (description, epochs done, epochs in all) after each epoch.

    Raises:
        ValueError: a count is too small, the images are of a wrong form or not finite, or images
            and labels do not fit together.
        TypeError: the images are no tensor.
    """
    _check(images, labels, epochs, batch_size)
    batch_size = min(batch_size, len(images))
    steps = epochs * (len(images) // batch_size)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=learning_rate, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=steps, cycle_momentum=False
    )
    device = device_of(model, images)
    images, labels = images.to(device), labels.to(device)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator, device="cpu").to(device)  # [N]
        for start in range(0, len(images) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            scores = model(_shifted(images[chosen], generator))  # [batch_size, num_classes]
            optimizer.zero_grad()
            nn.functional.cross_entropy(scores, labels[chosen]).backward()
            optimizer.step()
            scheduler.step()
        if progress is not None:
            progress("epochs", epoch + 1, epochs)
    model.eval()


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """The images, each moved by -1, 0 or 1 pixels along both axes; the border is repeated."""
    count, _, height, width = images.shape
    padded = nn.functional.pad(images, (1, 1, 1, 1), mode="replicate")  # [N, C, H + 2, W + 2]
    draws = torch.randint(3, (2, count, 1), generator=generator, device="cpu")
    top, left = draws.to(images.device)  # [N, 1] each
    rows = top + torch.arange(height, device=images.device)  # [N, H]
    columns = left + torch.arange(width, device=images.device)  # [N, W]
    which = torch.arange(count, device=images.device)[:, None, None]  # [N, 1, 1]
    moved = padded.permute(0, 2, 3, 1)[which, rows[:, :, None], columns[:, None, :]]  # [N, H, W, C]
    return moved.permute(0, 3, 1, 2).contiguous()


def _check(images: Tensor, labels: Tensor, epochs: int, batch_size: int) -> None:
    check_images("train", images, min_images=2)
    if labels.ndim != 1 or len(labels) != len(images):
        raise ValueError(
            f"train: labels must be [{len(images)}], one for each image, got {list(labels.shape)}"
        )
    if epochs < 1:
        raise ValueError(f"train: epochs must be at least 1, got {epochs}")
    if batch_size < 2:
        raise ValueError(f"train: batch_size must be at least 2, got {batch_size}")
