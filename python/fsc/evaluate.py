"""Top-1 accuracy of a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

Progress = Callable[[str, int, int], None]


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put every module in evaluation mode and give each its own mode back afterwards."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def accuracy(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    batch_size: int = 500,
    progress: Progress | None = None,
) -> float:
    """Return the share of images whose highest score is that of their label, in percent.

    The network runs in evaluation mode on the device of its parameters; its modes are restored.

    Args:
        model: maps [N, C, H, W] to class scores [N, num_classes].
        images: normalised images, floating point [N, C, H, W].
        labels: class indices, integers [N].
        batch_size: images in one forward pass; the result does not depend on it.
        progress: called with (description, images done, images in all) after each batch.

    Raises:
        ValueError: no images, a wrong rank, lengths that differ, NaN or Inf in the images, or
            labels that the network has no score for.

    Example:
        >>> scores = torch.tensor([[0.1, 0.9], [0.8, 0.2]]).reshape(2, 2, 1, 1)
        >>> accuracy(nn.Flatten(), scores, torch.tensor([1, 1]))
        50.0
    """
    _check(images, labels, batch_size)
    parameter = next(model.parameters(), None)
    device = images.device if parameter is None else parameter.device
    correct = 0
    with evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(device)  # [B, C, H, W]
            correct += _num_correct(model(batch), labels[start : start + batch_size].to(device))
            if progress is not None:
                progress("evaluate", start + len(batch), len(images))
    return 100.0 * correct / len(images)


def _check(images: Tensor, labels: Tensor, batch_size: int) -> None:
    if images.ndim != 4 or not images.is_floating_point():
        raise ValueError(
            "accuracy: images must be floating point [N, C, H, W], "
            f"got {images.dtype} {list(images.shape)}"
        )
    if len(images) == 0:
        raise ValueError(f"accuracy: images must not be empty, got {list(images.shape)}")
    if labels.ndim != 1 or len(labels) != len(images):
        raise ValueError(
            f"accuracy: labels must be [{len(images)}], one for each image, "
            f"got {list(labels.shape)}"
        )
    if batch_size < 1:
        raise ValueError(f"accuracy: batch_size must be at least 1, got {batch_size}")
    finite = images.isfinite().flatten(1).all(1)  # [N]
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise ValueError(f"accuracy: images must be finite, got NaN or Inf in image {first}")


def _num_correct(scores: Tensor, labels: Tensor) -> int:
    if scores.ndim != 2:
        raise ValueError(f"accuracy: model must return [N, num_classes], got {list(scores.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        raise ValueError(
            f"accuracy: labels must lie between 0 and {scores.shape[1] - 1}, the classes of the "
            f"model, got {int(labels.min())} to {int(labels.max())}"
        )
    return int((scores.argmax(1) == labels).sum())
