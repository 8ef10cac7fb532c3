"""MiR for a student that somebody else has made."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.images.folder import ImageFolder
from fsc.methods.agreement import check_ranks
from fsc.methods.base import Task
from fsc.methods.features import TeacherFeatures, Where, head_features
from fsc.methods.journal import Journal, fingerprint, origin
from fsc.methods.labelling import labels_for
from fsc.methods.schedule import in_words
from fsc.methods.soundness import Yardstick
from fsc.methods.two_networks import entered, say
from fsc.methods.views import check_views, originals_for, with_files
from fsc.networks import tracing
from fsc.networks.entry import Entry
from fsc.networks.features import truncate
from fsc.networks.gathering import Images
from fsc.networks.outputs import tensors_of
from fsc.networks.replaced import Replaced, behind
from fsc.networks.wrappers import in_dtype_of
from fsc.progress import Progress
from fsc.schemes import Scheme

if TYPE_CHECKING:
    from fsc.methods.mir import MiR


@dataclass(frozen=True)
class Pair:
    """A teacher and a student whose features match.

    Attributes:
        teacher: in plain modules, with images that it takes.
        student: the same for the student.
        replaced: the student's layers with the teacher's head behind.
        labels: int64 [N], or None.
        originals: the files that the images were made from, where the method crops them.
    """

    teacher: Entry
    student: Entry
    replaced: Replaced
    labels: Tensor | None
    originals: ImageFolder | None


def paired(
    method: MiR, teacher: nn.Module, student: nn.Module, images: Images, labels: Tensor | None
) -> Pair:
    """Check and bring together all that `MiR.mimic` is given; see there."""
    own, other, loaded = entered("mimic", teacher, student, images)
    originals = originals_for("mimic", method, images)
    learned = labels_for("mimic", method, labels, loaded, own.teacher, own.images)
    check_views("mimic", method, own.teacher, own.images, learned, originals)
    replaced = _replaced(own, other, method.features)
    return Pair(own, other, replaced, learned, originals)


def mimicked(
    method: MiR,
    pair: Pair,
    batch_size: int,
    seed: int,
    progress: Progress | None,
    journal: str | os.PathLike[str] | None,
) -> nn.Module:
    """Train the student of a pair; the rest as for `MiR.mimic`."""
    teacher, images, replaced = pair.teacher.teacher.eval(), pair.teacher.images, pair.replaced
    progress = progress if ranks.is_first() else None
    check_ranks("mimic", images, lambda: _identity(method, pair, seed))
    kept = None if journal is None else Journal(journal, _identity(method, pair, seed))
    # There is nothing left to remove.
    task = Task(
        teacher,
        images,
        Scheme("given", {}),
        batch_size,
        seed=seed,
        progress=progress,
        journal=kept,
        labels=pair.labels,
        originals=pair.originals,
    )
    with torch.no_grad():
        yardstick = Yardstick(teacher, images, batch_size)
        before = yardstick.distance(replaced)
        nodes = head_features(teacher, tracing.trace(teacher), method.features)
        wanted = TeacherFeatures(task, nodes, {})
        rates = method.train(replaced, replaced.body, wanted, task)
        after = yardstick.distance(replaced)
    say(in_words(method, rates), yardstick, after, before, 3)
    return in_dtype_of(pair.student.given, replaced.eval())


def _replaced(teacher: Entry, student: Entry, where: Where) -> Replaced:
    """The student's layers with the teacher's head behind them.

    Raises:
        ValueError: features do not match.
    """
    model, graph = teacher.teacher, tracing.trace(teacher.teacher)
    nodes = head_features(model, graph, where)
    example = teacher.images[:1]
    wanted = _shapes(truncate(model, graph, nodes), example)
    body = _body(student.teacher, where, wanted, _shapes(model, example), example)
    found = _shapes(body, example)
    if found != wanted:
        raise ValueError(
            f"student must give features of the teacher's shape, {_in_words(wanted)} {where} the "
            f"last pooling, got {_in_words(found)}"
        )
    head = behind(copy.deepcopy(model), graph, nodes)
    return Replaced(body, head).eval()


def _body(
    student: nn.Module,
    where: Where,
    wanted: list[list[int]],
    scores: list[list[int]],
    example: Tensor,
) -> nn.Module:
    """The layers of a student that give features: all of them where it has no head."""
    graph = tracing.trace(student)
    given = _shapes(student, example)
    (output,) = (node for node in graph.nodes if node.op == "output")
    if given == wanted != scores:
        return truncate(student, graph, tuple(output.all_input_nodes))
    return truncate(student, graph, head_features(student, graph, where))


def _shapes(model: nn.Module, example: Tensor) -> list[list[int]]:
    """The shapes, for one image, of what a network in evaluation mode gives."""
    model.eval()
    with torch.no_grad():
        return [list(each.shape[1:]) for each in tensors_of(model(example))]


def _in_words(shapes: list[list[int]]) -> str:
    return " and ".join(map(str, shapes))


def _identity(method: MiR, pair: Pair, seed: int) -> dict[str, object]:
    """What two calls must share for one to go on where the other stopped."""
    images, labels = pair.teacher.images, pair.labels
    shared = origin(method, seed, pair.teacher.given, images, labels)
    shared = with_files(shared, pair.originals)
    return shared | {"student": fingerprint(pair.student.given.state_dict().values())}
