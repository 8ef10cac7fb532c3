"""Top-k accuracy of a network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from fsc.arguments import as_count, as_integer, is_several
from fsc.images.checks import check_images, device_of
from fsc.images.folder import ImageFolder
from fsc.images.labels import check_labels
from fsc.networks.modes import evaluation_mode
from fsc.networks.states import check_holds_values
from fsc.networks.tracing import trace
from fsc.progress import Progress
from fsc.wording import shown


def accuracy(
    model: nn.Module,
    images: Tensor | ImageFolder,
    labels: Tensor,
    batch_size: int = 500,
    progress: Progress | None = None,
) -> float:
    """Return the share of images whose highest score is that of their label, in percent.

    Takes and raises what `accuracies` does.

    Example:
        >>> scores = torch.tensor([[0.1, 0.9], [0.8, 0.2]]).reshape(2, 2, 1, 1)
        >>> accuracy(nn.Flatten(), scores, torch.tensor([1, 1]))
        50.0
    """
    return accuracies(model, images, labels, (1,), batch_size, progress)[0]


def accuracies(
    model: nn.Module,
    images: Tensor | ImageFolder,
    labels: Tensor,
    ranks: Iterable[int] = (1, 5),
    batch_size: int = 500,
    progress: Progress | None = None,
) -> tuple[float, ...]:
    """Return the shares of images whose label is among the k highest scores, in percent.

    The network runs in evaluation mode on the device of its parameters; its modes are restored.

    Args:
        model: maps [N, C, H, W] to class scores [N, num_classes].
        images: normalised images [N, C, H, W], of the dtype of the network; of a folder one batch
            at a time is decoded.
        labels: class indices, integers [N].
        ranks: the numbers k, from 1 to the number of classes.
        batch_size: images in one forward pass; the result does not depend on it.
        progress: called with (description, images done, images in all) after each batch.

    Returns:
        One share for each k.

    Raises:
        ValueError: no images, a wrong rank, dtype or number of channels, lengths that differ, NaN
            or Inf in the images, a damaged image, labels that the network has no score for, or a k
            above the number of classes.
        TypeError: an argument is of the wrong type.
    """
    check_holds_values("accuracy: model", model)
    ranks = _as_ranks(ranks)
    batch_size = as_count("accuracy: batch_size", batch_size)
    example = images[:1].decoded() if isinstance(images, ImageFolder) else images
    check_images("accuracy", example, model, _graph(model))
    check_labels("accuracy", labels, len(images))
    device = device_of(model, example)
    correct = torch.zeros(len(ranks), dtype=torch.int64, device="cpu")
    with evaluation_mode(model), torch.inference_mode():
        for start in range(0, len(images), batch_size):
            part = images[start : start + batch_size]
            batch = part.decoded() if isinstance(part, ImageFolder) else part  # [B, C, H, W]
            classes = labels[start : start + batch_size].to(device).long()
            scores = model(batch.to(device, copy=True))  # which it may write into
            correct += _num_correct(scores, classes, ranks)
            if progress is not None:
                progress("evaluating, image", start + len(batch), len(images))
    return tuple(100.0 * number / len(images) for number in correct.tolist())


def _as_ranks(ranks: Any) -> tuple[int, ...]:
    found = ranks.tolist() if isinstance(ranks, Tensor | np.ndarray) else ranks
    found = tuple(found) if is_several(found) else ()
    if not found:
        raise TypeError(f"accuracy: ranks must be one integer or more, got {shown(ranks)}")
    return tuple(as_integer("accuracy: ranks", rank) for rank in found)


def _graph(model: nn.Module) -> fx.Graph | None:
    # Any network can be evaluated; one that cannot be traced finds wrong channels by itself.
    try:
        return trace(model)
    except ValueError:
        return None


def _num_correct(scores: Tensor, labels: Tensor, ranks: Sequence[int]) -> Tensor:
    """How many labels [N] are among the k highest scores [N, num_classes], for each k."""
    if scores.ndim != 2:
        raise ValueError(f"accuracy: model must return [N, num_classes], got {list(scores.shape)}")
    if int(labels.min()) < 0 or int(labels.max()) >= scores.shape[1]:
        raise ValueError(
            f"accuracy: labels must lie between 0 and {scores.shape[1] - 1}, the classes of the "
            f"model, got {int(labels.min())} to {int(labels.max())}"
        )
    if not 1 <= min(ranks) <= max(ranks) <= scores.shape[1]:
        raise ValueError(
            f"accuracy: ranks must lie between 1 and the {scores.shape[1]} classes of the model, "
            f"got {tuple(ranks)}"
        )
    # The highest by argmax, so that equal scores are told apart as ever.
    hits = [
        scores.argmax(1) == labels
        if rank == 1
        else (scores.topk(rank).indices == labels[:, None]).any(1)
        for rank in ranks
    ]
    return torch.stack(hits).sum(1).cpu()
