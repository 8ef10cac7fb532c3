"""What a teacher gives for the few images: features at nodes of its graph, and class scores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, fx, nn

from fsc import ranks
from fsc.channels.groups import columns_left
from fsc.methods.base import Task
from fsc.networks import tracing
from fsc.networks.features import feature_nodes, reader_of, truncate
from fsc.networks.outputs import tensors_of
from fsc.progress import Progress

Where = Literal["before", "after"]


def head_features(model: nn.Module, graph: fx.Graph, where: Where) -> tuple[fx.Node, ...]:
    """The features in front of every head, each once, before or after the last pooling."""
    which = 0 if where == "before" else 1
    return tuple({pair[which]: None for pair in feature_nodes(model, graph)})


def body_of(model: nn.Module, where: Where) -> nn.Module:
    """The layers in front of the heads, sharing the model's parameters."""
    graph = tracing.trace(model)
    return truncate(model, graph, head_features(model, graph, where))


def computed(
    body: nn.Module, views: Tensor, batch_size: int, progress: Progress | None = None
) -> list[Tensor]:
    """What a network in evaluation mode gives for [V, N, ...], every tensor as [V, N, ...].

    Args:
        body: the network.
        views: [V, N, ...].
        batch_size: images that go through it at once.
        progress: called with (what, done, total).
    """
    body.eval()
    images = views.flatten(0, 1)
    is_shared = len(images) >= ranks.count()
    own = ranks.share(images) if is_shared else images
    batches, done = [], 0
    with torch.no_grad():
        for batch in own.split(batch_size):
            batches.append(tensors_of(body(batch)))
            done += len(batch)
            if progress is not None:
                progress("preparing images, image", done, len(own))
    together = [torch.cat(parts) for parts in zip(*batches, strict=True)]
    if is_shared:
        together = [ranks.side_by_side(each, 0) for each in together]
    return [each.unflatten(0, views.shape[:2]) for each in together]


class TeacherFeatures(nn.Module):
    """What a task's teacher gives at some nodes of its graph, of the channels a student still has.

    Args:
        task: the teacher, an image and the channel groups.
        nodes: all of one graph of the teacher.
        kept: the channels that stay of every group that lost some.

    Attributes:
        example: the features of one image, [1, C, ...] each.
    """

    def __init__(self, task: Task, nodes: tuple[fx.Node, ...], kept: Mapping[str, Tensor]) -> None:
        """Runs the teacher on one image."""
        super().__init__()
        self.body = truncate(task.teacher, nodes[0].graph, nodes).eval()
        with torch.no_grad():
            example = tensors_of(self.body(task.images[:1]))
        columns = columns_left(task.groups, kept)
        self._stays = [
            _staying(task.teacher, node, each, columns)
            for node, each in zip(nodes, example, strict=True)
        ]
        self.example = self._those_that_stay(example)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The features of images [N, ...], [N, C, ...] at each node."""
        return self._those_that_stay(tensors_of(self.body(images)))

    def _those_that_stay(self, features: list[Tensor]) -> list[Tensor]:
        return [
            each if stays is None else each.index_select(*stays)
            for each, stays in zip(features, self._stays, strict=True)
        ]


def _staying(
    teacher: nn.Module, node: fx.Node, features: Tensor, columns: Mapping[str, Tensor]
) -> tuple[int, Tensor] | None:
    """The axis of channels of features [1, C, ...], and those that stay; None: all of them."""
    reader = reader_of(teacher, node) if columns else ""
    stays = columns.get(reader)
    if stays is None:
        return None
    is_read_as_it_is = any(str(user.target) == reader for user in node.users)
    axis = _channel_axis(features, stays, is_linear_input=is_read_as_it_is and features.ndim < 4)
    # A Linear may read several pixels of a feature.
    chosen = stays.view(features.shape[axis], -1)[:, 0].nonzero().flatten()
    return axis, chosen.to(features.device)


def _channel_axis(features: Tensor, stays: Tensor, *, is_linear_input: bool) -> int:
    """The axis of channels: the second of images [N, C, ...], the last of tokens [N, T, C]."""
    of_tokens = features.ndim == 3 and len(stays) == features.shape[2]
    if of_tokens and (is_linear_input or len(stays) != features.shape[1]):
        return 2
    return 1


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
