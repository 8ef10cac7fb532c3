"""Top-1 accuracy of a network."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from fsc.images.checks import check_images, device_of
from fsc.networks.modes import evaluation_mode
from fsc.networks.tracing import trace
from fsc.progress import Progress


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
        images: normalised images [N, C, H, W], of the dtype of the network.
        labels: class indices, integers [N].
        batch_size: images in one forward pass; the result does not depend on it.
        progress: called with (description, images done, images in all) after each batch.

    Raises:
        ValueError: no images, a wrong rank, dtype or number of channels, lengths that differ, NaN
            or Inf in the images, or labels that the network has no score for.
        TypeError: the images are no tensor.

    Example:
        >>> scores = torch.tensor([[0.1, 0.9], [0.8, 0.2]]).reshape(2, 2, 1, 1)
        >>> accuracy(nn.Flatten(), scores, torch.tensor([1, 1]))
        50.0
    """
    _check(model, images, labels, batch_size)
    device = device_of(model, images)
    correct = 0
    with evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(device)  # [B, C, H, W]
            correct += _num_correct(model(batch), labels[start : start + batch_size].to(device))
            if progress is not None:
                progress("evaluate", start + len(batch), len(images))
    return 100.0 * correct / len(images)


def _check(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> None:
    check_images("accuracy", images, model, _graph(model))
    if labels.ndim != 1 or len(labels) != len(images):
        raise ValueError(
            f"accuracy: labels must be [{len(images)}], one for each image, "
            f"got {list(labels.shape)}"
        )
    if batch_size < 1:
        raise ValueError(f"accuracy: batch_size must be at least 1, got {batch_size}")


def _graph(model: nn.Module) -> fx.Graph | None:
    # Any network can be evaluated; one that cannot be traced finds wrong channels by itself.
    try:
        return trace(model)
    except ValueError:
        return None


def _num_correct(scores: Tensor, labels: Tensor) -> int:
    if scores.ndim != 2:
        raise ValueError(f"accuracy: model must return [N, num_classes], got {list(scores.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        raise ValueError(
            f"accuracy: labels must lie between 0 and {scores.shape[1] - 1}, the classes of the "
            f"model, got {int(labels.min())} to {int(labels.max())}"
        )
    return int((scores.argmax(1) == labels).sum())
