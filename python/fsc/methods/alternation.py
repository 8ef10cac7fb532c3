"""Training and FSKD by turns, for a student that begins with random weights (FSKD, section 4.2)."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.arguments import as_count, as_rate, check_fields
from fsc.methods.any_aligned import blocks_matched, left_in_words, recover
from fsc.methods.arguments import as_given
from fsc.methods.back_prop import BackProp
from fsc.methods.base import Task
from fsc.methods.fit_net import FitNet
from fsc.methods.fskd import FSKD
from fsc.methods.kd import KD, without_labels
from fsc.methods.opening import AnyBlocks, opening
from fsc.methods.schedule import Part, in_words, trained
from fsc.methods.soundness import Yardstick
from fsc.methods.training_state import TrainingState, put_back, values_of
from fsc.methods.two_networks import say
from fsc.networks.entry import Entry
from fsc.networks.gathering import Images
from fsc.networks.modes import evaluation_mode
from fsc.networks.observed import Observed
from fsc.networks.outputs import tensors_of
from fsc.networks.wrappers import in_dtype_of
from fsc.progress import Progress, telling

# In the part of the journal that a round has: the student after it, the part of its alignment.
_ENTRY, _ALIGNMENT = "student", "alignment"


@dataclass(frozen=True, kw_only=True)
class Alternation:
    """A smaller network with random weights, trained and aligned to a teacher by turns.

    Trained alone, few images teach it little; aligned alone, it keeps its random filters. By turns
    the filters come from training, and what they are mixed to from the teacher.

    Lifecycle:
        1. train the student as `training` does;
        2. let FSKD align the ends of its blocks to those of the teacher on the same images, each
           layer in one step; from then on BatchNorm is folded, and there is none;
        3. train again, and so on, until the loss after training has settled: until it differs from
           those of the two rounds before by at most `tolerance` of each, or `rounds` are over. The
           head is the student's own, which is why the last step is a training.

    Args:
        training: `BackProp`, which learns labels and does not see the teacher ("SGD + FSKD" in the
            paper), `FitNet` or `KD`. By default 300 steps at 0.01, which falls twice; the paper has
            150 epochs.
        alignment: `FSKD`, by default on the given images alone. None: it is trained alone, for
            comparison.
        rounds: how many trainings there are at most.
        tolerance: share of the loss.

    Raises:
        ValueError: a value is out of its range.
        TypeError: training or alignment is something else.
    """

    training: BackProp | KD | FitNet = BackProp(steps=300, learning_rate=0.01)
    alignment: FSKD | None = FSKD(solve_on=0)
    rounds: int = 8
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        """Refuses values that no turn can use."""
        check_fields(self)
        if not isinstance(self.training, BackProp | KD | FitNet):
            raise TypeError(
                f"training must be a BackProp, KD or FitNet, got {as_given(self.training)}"
            )
        if not isinstance(self.alignment, FSKD | None):
            raise TypeError(f"alignment must be a fsc.FSKD or None, got {as_given(self.alignment)}")
        as_count("rounds", self.rounds)
        as_rate("tolerance", self.tolerance)

    def teach(
        self,
        teacher: nn.Module,
        student: nn.Module,
        images: Images,
        labels: Tensor | None = None,
        *,
        blocks: AnyBlocks = "stages",
        batch_size: int = 64,
        seed: int = 0,
        progress: Progress | bool = True,
        journal: str | os.PathLike[str] | None = None,
    ) -> nn.Module:
        """Train and align any student.

        Args:
            teacher: a network as for `fsc.compress`, which takes one tensor; it is not changed.
            student: a network whose blocks end with maps of the teacher's size and as many
                channels, and which gives as many scores, such as a VGG-13 for a VGG-19; it is not
                changed.
            images: as for `fsc.compress`.
            labels: class indices, int64 [N], beside images that come without; `BackProp` needs
                them.
            blocks: where they end, as for `FSKD.align`.
            batch_size: images that go through the networks at once, but for training.
            seed: of the order of the images and of what is drawn of them; the same seed gives the
                same bits.
            progress: as for `fsc.compress`; the round stands in front of what is done.
            journal: a folder where the student is kept after every round, and its training every 50
                steps. A call with the same arguments goes on from there, with the bits of an
                uninterrupted run; damaged files are dropped with a warning. Delete it when the
                student is safe. None: nothing is kept.

        Returns:
            The student in evaluation mode; with BatchNorms folded where it was aligned.

        Warns:
            CompressionWarning: the loss had not settled after `rounds`, of which three are the
                fewest that can tell; blocks could not be matched and were not aligned; a training
                diverged and was run again; labels were missed; or the student ended farther from
                the teacher than it began.

        Raises:
            ValueError: no block can be matched, labels are missing, an argument does not fit, or
                the journal is of another call.
            TypeError: an argument is of the wrong type.
            OSError: the journal cannot be written.

        Example:
            >>> def net(*widths):
            ...     layers, before = [], 3
            ...     for width in widths:
            ...         layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            ...         before = width
            ...     head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
            ...     return nn.Sequential(*layers, nn.Conv2d(before, 8, 3, 2), nn.ReLU(), *head)
            >>> images, labels = torch.randn(12, 3, 8, 8), torch.arange(12) % 4
            >>> method = Alternation(training=BackProp(steps=9), rounds=1)
            >>> method.teach(net(6, 6, 6), net(6), images, labels)(images).shape
            torch.Size([12, 4])
        """
        given = (teacher, student, images)
        with telling(progress) as told:
            asked = (blocks, None, batch_size, seed, told, journal)
            own, other, task = opening("teach", self, self.training, given, labels, *asked)
            left = self._left(own, other, task, blocks)
            yardstick = Yardstick(own.teacher, own.images, task.batch_size)
            before = yardstick.distance(other.teacher)
            made, said = self._by_turns(copy.deepcopy(other.teacher), task, blocks)
        say(said + left, yardstick, yardstick.distance(made), before, 2)
        return in_dtype_of(other.given, made.eval())

    def _has_settled(self, losses: list[float]) -> bool:
        """Whether the last loss is that of the two before; one alone may be so by chance."""
        last = losses[-1]
        near = [abs(last - each) <= self.tolerance * each for each in losses[-3:-1]]
        return len(near) == 2 and all(near)

    def _left(self, own: Entry, other: Entry, task: Task, blocks: AnyBlocks) -> list[str]:
        """What is to be said of blocks and stages that do not match, before any work."""
        left = []
        if isinstance(self.training, FitNet):
            left += self.training.left(other.teacher, {}, task)
        if self.alignment is None:
            return left
        match = blocks_matched("teach", own.teacher, other.teacher, own.images[:1], blocks)
        return left + left_in_words("teach", match)

    def _by_turns(
        self, student: nn.Module, task: Task, blocks: AnyBlocks
    ) -> tuple[nn.Module, list[str]]:
        """A student trained and aligned until the loss settles, and what is to be said of it."""
        said = without_labels(self.training, getattr(self.training, "weight", 1), task)
        losses: list[float] = []
        for number in range(1, self.rounds + 1):
            turn = _turn(task, number, self.rounds)
            student, loss, told = self._round(student, number, turn, blocks)
            losses.append(loss)
            said += told
            if self._has_settled(losses):
                return student, said
        if self.rounds > 2:  # fewer cannot tell
            said.append(
                f"the loss had not settled after {self.rounds} rounds: the last two ended at "
                f"{losses[-2]:.3g} and {losses[-1]:.3g}"
            )
        return student, said

    def _round(
        self, student: nn.Module, number: int, turn: Task, blocks: AnyBlocks
    ) -> tuple[nn.Module, float, list[str]]:
        """The student of a round, its loss and what is to be said: found on disk, or made now."""
        journal = turn.journal
        told: list[str] = []
        is_aligned = self.alignment is not None and number > 1
        entry, otherwise = None, f"round {number} is made again"
        if journal is not None:
            entry = journal.read(_ENTRY, otherwise, {"loss": float, "said": list})
        if entry is not None:
            values, header = entry
            if is_aligned:  # which folds BatchNorm, before anything else
                student = Observed.folded(student, turn.images[:1]).model
            put_back(student, values)
            return student.eval(), header["loss"], header["said"]
        if is_aligned:
            student, told = self._aligned(student, turn, blocks)
        parts = self.training.parts(student, {}, turn)
        rates = trained(student, parts, self.training, turn, stays_near=False)
        told += [f"round {number}: {each}" for each in in_words(self.training, rates)]
        loss = ranks.first(partial(_loss, parts[-1]))
        if journal is not None:
            journal.write(_ENTRY, values_of(student), {"loss": loss, "said": told})
            for part in (journal, journal.within(_ALIGNMENT)):
                TrainingState(part).drop()
        return student, loss, told

    def _aligned(
        self, student: nn.Module, turn: Task, blocks: AnyBlocks
    ) -> tuple[nn.Module, list[str]]:
        """A student aligned to the teacher, and what is to be said of it."""
        assert self.alignment is not None
        match = blocks_matched("teach", turn.teacher, student, turn.images[:1], blocks)
        journal = None if turn.journal is None else turn.journal.within(_ALIGNMENT)
        with torch.no_grad():
            _, told = recover(self.alignment, match, replace(turn, journal=journal))
        return match.student.model, told


def _turn(task: Task, number: int, rounds: int) -> Task:
    """The task of one round, which draws for itself, with a part of the journal for itself."""
    journal = None if task.journal is None else task.journal.within(f"round-{number}")
    turn = replace(task, seed=task.seed + number - 1, journal=journal)
    if task.progress is None:
        return turn
    told = task.progress

    def progress(what: str, done: int, total: int) -> None:
        told(f"round {number} of {rounds}: {what}", done, total)

    return replace(turn, progress=progress)


def _loss(part: Part) -> float:
    """The loss of what a network was taught, over all images, in evaluation mode."""
    body, lesson = part()
    generator = torch.Generator().manual_seed(lesson.seed)
    count, total = lesson.views.count, 0.0
    with evaluation_mode(body), torch.no_grad():
        for chosen in torch.arange(count, device="cpu").split(lesson.schedule.batch_size):
            images, wanted = lesson.views.draw(chosen, generator, torch.contiguous_format)
            total += len(chosen) * float(lesson.loss(tensors_of(body(images)), wanted))
    return total / count
