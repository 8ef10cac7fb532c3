"""Training the head behind a frozen student (MiR, Table 8)."""

from __future__ import annotations

from dataclasses import replace

from torch import fx, nn

from fsc.methods.base import Task
from fsc.methods.features import body_of
from fsc.methods.lesson import Lesson, Loss
from fsc.methods.schedule import Schedule
from fsc.methods.score_losses import Distillation, cross_entropy
from fsc.methods.views import AnyViews
from fsc.networks import tracing
from fsc.networks.features import feature_heads, truncate
from fsc.networks.operations import is_linear


def check_head(teacher: nn.Module) -> None:
    """Make sure that a network ends in one Linear.

    Raises:
        ValueError: it does not.
    """
    heads = feature_heads(teacher, tracing.trace(teacher))
    if len(heads) > 1 or not is_linear(teacher, heads[0]):
        names = ", ".join(str(head.target) for head in heads)
        raise ValueError(
            f"tune_head must be False for a network that does not end in one Linear, got {names}"
        )


def head_lesson(
    student: nn.Module, views: AnyViews, learning_rate: float, schedule: Schedule, task: Task
) -> tuple[nn.Module, Lesson]:
    """The head of a student, and what it is to give for the features of the frozen layers.

    With labels the loss is the cross entropy, as in the paper; without, the divergence from the
    teacher's scores.

    Args:
        student: a network that ends in one Linear, its layers trained.
        views: of the images; what goes with them does not matter.
        learning_rate: of the head.
        schedule: steps and the rest of SGD; not `relative`, since the rate is no share of norms.
        task: teacher, labels and seed.
    """
    node = _head_of(student)
    features = body_of(student, "after")  # [B, C]
    loss: Loss = cross_entropy
    if task.labels is not None:
        own = views.with_targets(labels=task.labels, seen_through=features)
    else:
        graph = tracing.trace(task.teacher)
        scores = truncate(task.teacher, graph, _head_of(task.teacher, graph))
        own, loss = views.with_targets(scores, seen_through=features), Distillation(1.0, 1.0)
    lesson = Lesson(
        "tuning the head",
        own,
        loss,
        schedule.steps,
        learning_rate,
        replace(schedule, relative=False),
        task.seed,
    )
    return student.get_submodule(str(node.target)), lesson


def _head_of(model: nn.Module, graph: fx.Graph | None = None) -> fx.Node:
    return feature_heads(model, graph or tracing.trace(model))[0]
