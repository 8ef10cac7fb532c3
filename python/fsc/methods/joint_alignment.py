"""FSKD-SGD (Li et al., 2018, Eq. 2): the 1x1 convolutions of all blocks trained together."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, fx, nn

from fsc.images.augmentation import randomly_mirrored
from fsc.images.names import VIEWS
from fsc.layers.pointwise_layer import Absorbed, write_all
from fsc.methods.base import Task
from fsc.methods.block_ends import Match
from fsc.methods.fresh_views import FreshViews
from fsc.methods.lesson import Lesson, Loss
from fsc.methods.schedule import Schedule, in_words, trained
from fsc.networks.features import truncate
from fsc.walking.meeting import Meeting


@dataclass(frozen=True, kw_only=True)
class JointSGD(Schedule):
    """How the 1x1 convolutions of all blocks are trained together, see `fsc.FSKD`.

    Args:
        steps: minibatches.
        batch_size: images of a minibatch.
        learning_rate, decay, warm_up, momentum, weight_decay, clip_norm, relative, precision,
            max_retries: as in `fsc.methods.schedule.Schedule`. The paper says nothing of them.
            Images are mirrored one time in two.

    Raises:
        ValueError: a value is out of its range.
    """

    steps: int = 400
    batch_size: int = 50
    learning_rate: float = 0.1
    decay: Literal["steps", "cosine"] = "cosine"
    warm_up: int = 20
    weight_decay: float = 0.0
    clip_norm: float | None = 1.0
    batch_norm: Literal["train", "frozen"] = "frozen"  # there are none behind Q

    def __post_init__(self) -> None:
        """Refuses what has no effect on 1x1 convolutions alone."""
        super().__post_init__()
        for name, only in (("views", VIEWS[0]), ("batch_norm", "frozen"), ("precondition", None)):
            if getattr(self, name) != only:
                raise ValueError(f"{name} must be {only} for FSKD, got {getattr(self, name)!r}")


def train_together(match: Match, schedule: JointSGD, intercept: bool, task: Task) -> list[str]:
    """Train Q behind all layers where both networks meet, and let the layers absorb them.

    What is minimised is the sum over blocks of || Q X_S - X_T ||_F^2 / || X_T ||_F^2, so that one
    learning rate is for all of them; every Q starts as the identity.

    Args:
        match: both networks; the student's layers are changed.
        schedule: of SGD.
        intercept: whether Q has a bias where its layer has one.
        task: images, seed, journal and progress.

    Returns:
        What is to be said of it.
    """
    meetings = match.ends.meetings
    whole, body, pointwise = _with_pointwise(match, intercept)
    views = FreshViews(
        task.images,
        lambda images, generator, own: randomly_mirrored(images, generator)[own],
        task.batch_size,
    ).with_targets(_Wanted(match))
    lesson = Lesson(
        "aligning all blocks",
        views,
        _shares(views.targets),
        schedule.steps,
        schedule.learning_rate,
        schedule,
        task.seed,
    )
    rates = trained(whole, [lambda: (body, lesson)], schedule, task)
    write_all(
        [
            module.absorbed(match.student.module(meeting.names[1]))
            for meeting, module in zip(meetings, pointwise, strict=True)
        ]
    )
    return in_words(schedule, rates)


class _Pointwise(nn.Module):
    """Q behind some output channels of a layer, as parameters."""

    def __init__(self, layer: nn.Module, rows: Tensor, intercept: bool) -> None:
        super().__init__()
        weight = layer.weight
        assert isinstance(weight, Tensor)
        groups, size = rows.shape
        identity = torch.eye(size, dtype=weight.dtype, device=weight.device)
        self.weight = nn.Parameter(identity.repeat(groups, 1, 1))  # [groups, R, R]
        has_bias = intercept and layer.bias is not None
        self.bias = nn.Parameter(torch.zeros_like(self.weight[:, :, 0])) if has_bias else None
        self.register_buffer("rows", rows, persistent=False)
        # Not a part of this module: it says which axis channels are on, and changes elsewhere.
        self._behind = [layer]

    def absorbed(self, layer: nn.Module) -> Absorbed:
        """The same for a layer to absorb."""
        rows = self.get_buffer("rows")
        return Absorbed(layer, rows, self.weight, self.bias)

    def forward(self, output: Tensor) -> Tensor:
        """What a layer gives, mixed."""
        return self.absorbed(self._behind[0]).applied(output)


class _Wanted(nn.Module):
    """What a teacher gives where both networks meet, of the channels that the student has."""

    def __init__(self, match: Match) -> None:
        super().__init__()
        self.meetings = match.ends.meetings
        nodes = tuple(meeting.teacher for meeting in self.meetings)
        self.body = truncate(match.teacher.model, match.teacher.graph, nodes)
        students = [match.student.module(meeting.names[1]) for meeting in self.meetings]
        self._axes = [-1 if isinstance(layer, nn.Linear) else 1 for layer in students]

    def forward(self, images: Tensor) -> list[Tensor]:
        values = zip(self.meetings, self._axes, self.body(images), strict=True)
        return [meeting.chosen(value, axis) for meeting, axis, value in values]


def _with_pointwise(
    match: Match, intercept: bool
) -> tuple[fx.GraphModule, fx.GraphModule, list[_Pointwise]]:
    """A copy of the student with Q behind its layers, whose parameters are those of Q alone.

    Returns:
        (the whole network, the part of it that gives what is compared, every Q).
    """
    model = copy.deepcopy(match.student.model)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach())
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(match.student.graph, copies))
    pointwise = []
    for index, meeting in enumerate(match.ends.meetings):
        name = meeting.names[1]
        layer = model.get_submodule(name)
        rows = match.rows[name].view(getattr(layer, "groups", 1), -1)
        pointwise.append(_Pointwise(layer, rows, intercept))
        model.add_module(f"fsc_pointwise_{index}", pointwise[-1])
        _insert(graph, copies, meeting, f"fsc_pointwise_{index}")
    ends = tuple(copies[meeting.student] for meeting in match.ends.meetings)
    return fx.GraphModule(model, graph), truncate(model, graph, ends), pointwise


def _insert(graph: fx.Graph, copies: dict[fx.Node, fx.Node], meeting: Meeting, name: str) -> None:
    """Let all who read what a layer gives read it behind a module."""
    before = copies[meeting.layer]
    with graph.inserting_after(before):
        behind = graph.call_module(name, (before,))
    before.replace_all_uses_with(behind, delete_user_cb=lambda user: user is not behind)
    if meeting.student is meeting.layer:
        copies[meeting.student] = behind


def _shares(targets: Sequence[Tensor]) -> Loss:
    """The sum of what every block lacks, as shares of the energy of what it is to give.

    Args:
        targets: what the blocks are to give for some images; the energy of a minibatch would be
            another one in every process.
    """
    energies = [each.square().mean().clamp_min(torch.finfo(each.dtype).tiny) for each in targets]

    def shares(given: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        pairs = zip(given, wanted, energies, strict=True)
        return torch.stack([(a - b).square().mean() / energy for a, b, energy in pairs]).sum()

    return shares
