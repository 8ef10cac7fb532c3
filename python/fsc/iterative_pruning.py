"""`prune_iteratively`: pruning and FSKD by turns (Li et al., 2018, Algorithm 2)."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.arguments import as_integer
from fsc.methods import FSKD
from fsc.methods.agreement import check_ranks, check_shares
from fsc.methods.arguments import as_given, as_numbers, check_types
from fsc.methods.features import scores_of
from fsc.methods.held_out import Judge, parted
from fsc.methods.journal import Journal, fingerprint, origin
from fsc.methods.round_after_round import Ending, RoundAfterRound
from fsc.methods.round_rules import Candidate, checked_rules
from fsc.methods.rounds import RoundsOfPruning
from fsc.networks import cost
from fsc.networks.entry import Entry, enter
from fsc.networks.gathering import Images
from fsc.networks.joint_input import joint_of
from fsc.networks.modes import evaluation_mode, outside_inference
from fsc.networks.plain import pass_on
from fsc.networks.wrappers import in_dtype_of
from fsc.progress import Progress, telling
from fsc.scheme_tables import Style
from fsc.schemes.ignoring import Ignored
from fsc.warning import CompressionWarning
from fsc.wording import shown

AlignTo = Literal["teacher", "previous"]
_NAME = "prune_iteratively"


@dataclass
class IterativeResult:
    """What iterative pruning gives.

    Attributes:
        student: the network of the last round, in evaluation mode.
        scored_by: "labels", or "agreement" with the classes that the teacher names.
        teacher_score: of the network as it was given, in percent; 100 by agreement.
        flops_teacher: multiply-accumulates of the network as it was given.
        parameters_teacher: how many it had.
        candidates: of all rounds, in the order of their making.
    """

    student: nn.Module
    scored_by: Literal["labels", "agreement"]
    teacher_score: float
    flops_teacher: int
    parameters_teacher: int
    candidates: list[Candidate] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """All but the student, as JSON holds it."""
        names = ("scored_by", "teacher_score", "flops_teacher", "parameters_teacher")
        found = {name: getattr(self, name) for name in names}
        return found | {"candidates": [asdict(each) for each in self.candidates]}


def prune_iteratively(
    teacher: nn.Module,
    images: Images,
    *,
    pruning_ratios: Iterable[float] = (0.1, 0.2, 0.3),
    rounds: int = 3,
    flops: float | None = None,
    lowest_score: float | None = None,
    align_to: AlignTo = "teacher",
    method: FSKD | None = None,
    labels: Tensor | None = None,
    score_images: Tensor | None = None,
    score_labels: Tensor | None = None,
    ignored: Ignored = (),
    round_to: int = 1,
    style: Style = "residual",
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress | bool = True,
    journal: str | os.PathLike[str] | None = None,
) -> IterativeResult:
    """Prunes a network by turns, each time by as much as the scores of several cuts allow.

    Every round cuts the network of the round before by each ratio, lets FSKD recover what is left,
    and scores it. One candidate goes on:

    - without `lowest_score`, that of the highest score, as the paper has it, and the smallest of
      several. The mildest cut mostly scores highest, so that a round takes the smallest of the
      ratios unless a larger one costs nothing that the scores show. It ends after `rounds`, or once
      `flops` is reached.
    - with `lowest_score`, the smallest that scores at least so much. It ends where no candidate
      does, and at `rounds` and `flops` as well.

    In a process group every rank makes the same call, as for `fsc.compress`.

    Args:
        teacher: as for `fsc.compress`, with one input and class scores [N, classes]; it is not
            changed.
        images: as for `fsc.compress`.
        pruning_ratios: shares of the channels that go in a round, of every set of channels alike,
            above 0 and below 1.
        rounds: how many there are at most.
        flops: share of the teacher's multiply-accumulates; no round begins with a network that has
            come down to it. The last cut may go some way below.
        lowest_score: in percent, above 1 and at most what the teacher has.
        align_to: whose channels are ranked, and whose outputs every candidate is aligned to: those
            of the "teacher" as it was given, or, as the paper has it, of the network of the
            "previous" round, whose errors add up then.
        method: aligns each candidate, layer by layer. None: `FSKD()`.
        labels: classes of the images, int64 [N], to score by those of the images that are held out.
            Labels that come with a DataLoader or Dataset do the same.
        score_images: images to score on, which FSKD does not see, [M, C, ...], without `labels`.
            None: a fifth of the images, drawn by the seed and held out.
        score_labels: their classes, int64 [M]. Without any the score is the agreement with the
            teacher as it was given: the share of images for which both name one class.
        ignored: as for `fsc.compress`.
        round_to: layers keep a multiple of so many channels.
        style: as for `fsc.compress`.
        batch_size: images that go through the networks at once.
        seed: of the images that are held out, and of what FSKD draws; the same seed gives the same
            bits.
        progress: as for `fsc.compress`; the round and the ratio stand in front of what is done.
        journal: a folder where every candidate is kept once it is scored; of those that do not go
            on the numbers alone stay. A call with the same arguments goes on with the next one,
            with the bits of an uninterrupted run; damaged files are dropped with a warning. Delete
            it when the student is safe. None: nothing is kept.

    Returns:
        The network of the last round, and all candidates with their scores.

    Warns:
        CompressionWarning: it ended before `flops` was reached, or before `rounds` were over, as
            nothing smaller could be made.

    Raises:
        ValueError: an argument is out of its range or does not fit; no ratio removes a channel, or
            none of the first round reaches `lowest_score`; the journal is of another call.
        TypeError: an argument is of the wrong type.
        OSError: the journal cannot be written.

    Example:
        >>> import fsc
        >>> from fsc import models
        >>> teacher, images = models.build("resnet14").eval(), torch.randn(10, 3, 16, 16)
        >>> result = fsc.prune_iteratively(teacher, images, pruning_ratios=[0.2], rounds=2)
        >>> [candidate.round for candidate in result.candidates]
        [1, 2]
    """
    batch_size, seed = as_numbers(batch_size, seed)
    round_to = as_integer("round_to", round_to)
    rules = checked_rules(pruning_ratios, rounds, flops, lowest_score, style)
    method = _method(method, align_to)
    with outside_inference():
        entry = _entered(teacher, images)
        left, scored = (ignored, round_to, style), (labels, score_images, score_labels)
        asked = rules.definition() | {"align_to": align_to}
        own = partial(_identity, asked, method, seed, entry, *left, *scored)
        check_ranks(_NAME, entry.images, own)
        kept = None if journal is None else Journal(journal, own())
        seen, judge = parted(_NAME, entry, *scored, batch_size, seed)
        check_shares(_NAME, seen, "the images that are not held out")
        result = _result(entry, judge, lowest_score)
        with telling(progress) as told, evaluation_mode(entry.teacher), torch.no_grad():
            given = (*left, batch_size, seed, told if ranks.is_first() else None)
            pruning = RoundsOfPruning(method, replace(entry, images=seen), *given)
            turns = RoundAfterRound(rules, pruning, judge, align_to == "previous", kept)
            ending = turns.run(result.flops_teacher)
        return _ended(result, entry, ending)


def _entered(teacher: nn.Module, images: Images) -> Entry:
    """A teacher that takes one tensor and gives class scores."""
    check_types(teacher, None)
    entry = enter(_NAME, teacher, images)
    if joint_of(entry.teacher) is not None:
        raise ValueError(f"{_NAME}: images must be one tensor [N, C, ...], got several")
    scores_of(_NAME, entry.teacher, entry.images[:1])
    return entry


def _identity(
    asked: dict[str, Any],
    method: FSKD,
    seed: int,
    entry: Entry,
    ignored: Ignored,
    round_to: int,
    style: Style,
    labels: Tensor | None,
    score_images: Tensor | None,
    score_labels: Tensor | None,
) -> dict[str, Any]:
    """What all ranks must share, and two calls for one to go on where the other stopped."""
    left = {"ignored": sorted(map(str, ignored)), "round_to": round_to, "style": style}
    found = {
        "labels": entry.labels if labels is None else labels,
        "score_images": score_images,
        "score_labels": score_labels,
    }
    # What is no tensor is refused afterwards.
    scored = {n: fingerprint([each]) for n, each in found.items() if isinstance(each, Tensor)}
    own = origin(method, seed, entry.given, entry.images, None)
    return own | left | dict.fromkeys(found) | scored | asked


def _result(entry: Entry, judge: Judge, lowest_score: float | None) -> IterativeResult:
    """What is known before the first round.

    Raises:
        ValueError: not even the teacher scores as much as every student must.
    """
    score = judge.score(entry.teacher)
    if lowest_score is not None and lowest_score > score:
        raise ValueError(
            f"lowest_score must be at most the teacher's own, {score:.4g}, got {lowest_score:g}"
        )
    return IterativeResult(
        copy.deepcopy(entry.given).eval(),
        judge.by,
        score,
        cost.flops(entry.teacher, entry.images[:1]),
        cost.parameters(entry.teacher),
    )


def _ended(result: IterativeResult, entry: Entry, ending: Ending) -> IterativeResult:
    """The result with what the rounds ended with; warns whoever called `prune_iteratively`."""
    if ending.warning is not None and ranks.is_first():
        warnings.warn(ending.warning, CompressionWarning, stacklevel=3)
    result.candidates = ending.candidates
    result.student = in_dtype_of(entry.given, ending.network.cut)
    pass_on(entry.teacher, result.student)
    return result


def _method(method: object, align_to: str) -> FSKD:
    if align_to not in ("teacher", "previous"):
        raise ValueError(f"align_to must be teacher or previous, got {shown(align_to)}")
    method = FSKD() if method is None else method
    if not isinstance(method, FSKD):
        raise TypeError(f"method must be a fsc.FSKD or None, got {as_given(method)}")
    if method.sgd is not None:
        raise ValueError("method must align layer by layer, FSKD(sgd=None), got one with sgd")
    return method
