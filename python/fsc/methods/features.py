"""What a teacher gives for the few images: features at nodes of its graph, and class scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, fx, nn

from fsc.channels.groups import columns_left
from fsc.images.augmentation import mirrored
from fsc.methods.base import Task
from fsc.networks import tracing
from fsc.networks.features import feature_nodes, reader_of, truncate
from fsc.networks.outputs import tensors_of

Where = Literal["before", "after"]


def views_of(images: Tensor) -> Tensor:
    """Images [N, ...] as they are and mirrored, [2, N, ...]; alone where they have no mirror."""
    mirror = mirrored(images)
    return torch.stack([images] if mirror is None else [images, mirror])


def head_features(model: nn.Module, graph: fx.Graph, where: Where) -> tuple[fx.Node, ...]:
    """The features in front of every head, each once, before or after the last pooling."""
    which = 0 if where == "before" else 1
    return tuple({pair[which]: None for pair in feature_nodes(model, graph)})


def body_of(model: nn.Module, where: Where) -> nn.Module:
    """The layers in front of the heads, sharing the model's parameters."""
    graph = tracing.trace(model)
    return truncate(model, graph, head_features(model, graph, where))


def computed(body: nn.Module, views: Tensor, batch_size: int) -> list[Tensor]:
    """What a network in evaluation mode gives for [V, N, ...], every tensor as [V, N, ...]."""
    body.eval()
    with torch.no_grad():
        batches = [tensors_of(body(batch)) for batch in views.flatten(0, 1).split(batch_size)]
    together = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    return [each.unflatten(0, views.shape[:2]) for each in together]


def channels_that_stay(
    task: Task, kept: Mapping[str, Tensor], nodes: Sequence[fx.Node], features: Sequence[Tensor]
) -> list[Tensor]:
    """Those of the teacher's features [V, N, C, ...] at some nodes that a student still has."""
    columns = columns_left(task.groups, kept)
    found = []
    for node, each in zip(nodes, features, strict=True):
        reader = reader_of(task.teacher, node)
        stays = columns.get(reader)
        if stays is not None:
            is_read_as_it_is = any(str(user.target) == reader for user in node.users)
            axis = _channel_axis(each, stays, is_linear_input=is_read_as_it_is and each.ndim < 5)
            # A Linear may read several pixels of a feature.
            chosen = stays.view(each.shape[axis], -1)[:, 0].nonzero().flatten()
            each = each.index_select(axis, chosen.to(each.device))
        found.append(each)
    return found


def _channel_axis(features: Tensor, stays: Tensor, *, is_linear_input: bool) -> int:
    """The axis of channels: the third of images [V, N, C, ...], the last of tokens [V, N, T, C]."""
    of_tokens = features.ndim == 4 and len(stays) == features.shape[3]
    if of_tokens and (is_linear_input or len(stays) != features.shape[2]):
        return 3
    return 2


def scores_of(method: str, teacher: nn.Module, image: Tensor) -> Tensor:
    """The class scores of one image, [1, classes].

    Raises:
        ValueError: the network gives something else.
    """
    teacher.eval()
    with torch.no_grad():
        found = tensors_of(teacher(image))
    if len(found) != 1 or found[0].ndim != 2:
        shapes = " and ".join(str(list(each.shape)) for each in found)
        raise ValueError(
            f"teacher must give scores [N, classes] for {method}, got {shapes or 'no tensor'}"
        )
    return found[0]


def labels_of_views(labels: Tensor, views: Tensor) -> Tensor:
    """Labels [N] for every view of the images, [V, N]."""
    return labels.expand(len(views), len(labels))
