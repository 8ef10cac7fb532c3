"""`prune_iteratively`: pruning and recovery by turns (FSKD, Li et al., 2018, Algorithm 2)."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from numbers import Integral, Real
from typing import Any, Literal

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.compression import check_types, compress, method_of
from fsc.images.checks import check_images
from fsc.images.labels import check_labels, check_range
from fsc.methods import FSKD, Method
from fsc.methods.features import computed, scores_of
from fsc.methods.labelling import label_use
from fsc.networks import cost
from fsc.networks.entry import Entry, enter
from fsc.networks.gathering import Images
from fsc.networks.joint_input import joint_of
from fsc.networks.tracing import trace
from fsc.networks.wrappers import dtype_of
from fsc.progress import Progress
from fsc.scheme_tables import Style
from fsc.schemes.ignoring import Ignored
from fsc.schemes.structured import check_ratio
from fsc.training.evaluate import accuracy
from fsc.warning import CompressionWarning

Ratio = float | Mapping[str, float]
# Of the images, where none are given to be scored on.
_HELD_OUT = 0.2


@dataclass(frozen=True)
class Candidate:
    """One student of a round.

    Attributes:
        round: from 1 on.
        ratio: share of the channels that it lost of the network that the round began with.
        score: in percent.
        flops: its multiply-accumulates for one image.
        parameters: how many it has.
        seconds: of pruning and recovery.
        is_kept: whether the next round began with it.
    """

    round: int
    ratio: Ratio
    score: float
    flops: int
    parameters: int
    seconds: float
    is_kept: bool = False


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
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del found["student"]
        return found | {"candidates": [asdict(each) for each in self.candidates]}


@dataclass(frozen=True)
class _Judge:
    """Images that no method sees, with the classes that are right, and who says so."""

    images: Tensor
    classes: Tensor
    by: Literal["labels", "agreement"]

    def score(self, network: nn.Module) -> float:
        """The share of right classes in percent, the same on every rank."""
        images = self.images.to(dtype_of(network))
        return ranks.first(lambda: accuracy(network, images, self.classes))


@dataclass(frozen=True)
class _Rules:
    """Which candidate goes on, and when it is enough."""

    ratios: tuple[Ratio, ...]
    rounds: int
    flops: float | None
    lowest_score: float | None

    def best(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """The candidate that the next round begins with; None: none is good enough."""
        if self.lowest_score is None:
            return max(candidates, key=lambda each: (each.score, -each.flops), default=None)
        good = [each for each in candidates if each.score >= self.lowest_score]
        return min(good, key=lambda each: (each.flops, -each.score), default=None)


def prune_iteratively(
    teacher: nn.Module,
    images: Images,
    *,
    ratios: Iterable[Ratio] = (0.1, 0.2, 0.3),
    rounds: int = 3,
    flops: float | None = None,
    lowest_score: float | None = None,
    method: Method | str | None = None,
    labels: Tensor | None = None,
    score_images: Tensor | None = None,
    score_labels: Tensor | None = None,
    ignored: Ignored = (),
    round_to: int = 1,
    style: Style = "residual",
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> IterativeResult:
    """Prunes a network by turns, each time by as much as the scores of several cuts allow.

    Every round cuts the network of the round before by each ratio, recovers what is left, with that
    network as the teacher, and scores it. One candidate goes on:

    - without `lowest_score`, that of the highest score, as the paper has it, and the smallest of
      several. The mildest cut mostly scores highest, so that a round takes the smallest of the
      ratios unless a larger one costs nothing that the scores show. It ends after `rounds`, or once
      `flops` is reached.
    - with `lowest_score`, the smallest that scores at least so much. It ends where no candidate
      does, and at `rounds` and `flops` as well.

    Args:
        teacher: as for `fsc.compress`, with one input and class scores [N, classes]; it is not
            changed.
        images: as for `fsc.compress`.
        ratios: shares of the channels that go in a round, as `pruning_ratio` of `fsc.compress`.
        rounds: how many there are at most.
        flops: share of the teacher's multiply-accumulates; no round begins with a network that has
            come down to it. The last cut may go some way below.
        lowest_score: in percent, at most what the teacher has.
        method: recovers each candidate, as for `fsc.compress`. None: `FSKD()`.
        labels: classes of the images, int64 [N]; for methods that learn them, and to score by where
            images are held out. Those that come with a DataLoader or Dataset do the same.
        score_images: images to score on, which no method sees, [M, C, ...]. None: a fifth of the
            images, drawn by the seed and held out.
        score_labels: their classes, int64 [M]. Without any the score is the agreement with the
            teacher as it was given: the share of images for which both name one class.
        ignored: layers that stay whole, as for `fsc.compress`.
        round_to: layers keep a multiple of so many channels.
        style: as for `fsc.compress`.
        batch_size: images that go through the networks at once.
        seed: of the images that are held out, and of what the method draws; the same seed gives the
            same bits.
        progress: called with (what, done, total), the round and the ratio in front of what.

    Returns:
        The network of the last round, and all candidates with their scores.

    Warns:
        CompressionWarning: the rounds were over before `flops` was reached, or no more could be cut
            before; or what `fsc.compress` warns of.

    Raises:
        ValueError: an argument is out of its range or does not fit; no ratio removes a channel, or
            none of the first round reaches `lowest_score`; or what `fsc.compress` raises.
        TypeError: an argument is of the wrong type.

    Example:
        >>> import fsc
        >>> from fsc import models
        >>> teacher, images = models.build("resnet20").eval(), torch.randn(10, 3, 32, 32)
        >>> result = fsc.prune_iteratively(teacher, images, ratios=[0.2], rounds=2, method="l1")
        >>> [candidate.round for candidate in result.candidates]
        [1, 2]
    """
    check_types(teacher, method)
    rules = _checked(ratios, rounds, flops, lowest_score, style)
    entry = enter("prune_iteratively", teacher, images)
    if joint_of(entry.teacher) is not None:
        raise ValueError("prune_iteratively: images must be one tensor [N, C, ...], got several")
    chosen = FSKD() if method is None else method_of(method, entry.teacher)
    scores_of("prune_iteratively", entry.teacher, entry.images[:1])
    learned = _labels(labels, entry)
    seen, judge = _parted(entry, learned, score_images, score_labels, batch_size, seed)
    options = {"ignored": ignored, "round_to": round_to, "style": style}
    options |= {"method": chosen, "batch_size": batch_size, "seed": seed}
    if label_use(chosen) != "none" and learned is not None:
        options["labels"] = _of(learned, seen)
    result = IterativeResult(
        copy.deepcopy(entry.given).eval(),
        judge.by,
        judge.score(entry.given),
        cost.flops(entry.teacher, entry.images[:1]),
        cost.parameters(entry.teacher),
    )
    _check_reachable(rules, result)
    told = progress if ranks.is_first() else None
    return _in_rounds(rules, result, entry.images[seen], judge, options, told)


def _in_rounds(
    rules: _Rules,
    result: IterativeResult,
    images: Tensor,
    judge: _Judge,
    options: Mapping[str, Any],
    progress: Progress | None,
) -> IterativeResult:
    """Round after round, until it is enough; the result is added to."""
    share, end = 1.0, f"the {rules.rounds} rounds were over"
    for number in range(1, rules.rounds + 1):
        made = _candidates(rules, number, result.student, images, judge, options, progress)
        best = rules.best([candidate for candidate, _ in made])
        result.candidates += [replace(each, is_kept=each is best) for each, _ in made]
        if best is None:
            if number == 1:
                raise ValueError(_nothing(rules, made))
            end = f"round {number} gave " + ("nothing good enough" if made else "nothing smaller")
            break
        result.student = next(student for candidate, student in made if candidate is best)
        share = best.flops / result.flops_teacher
        if rules.flops is not None and share <= rules.flops:
            return result
    if rules.flops is not None and ranks.is_first():
        sentence = f"{end} at {share:.3g} of the multiply-accumulates, before {rules.flops:g}"
        warnings.warn(sentence, CompressionWarning, stacklevel=3)
    return result


def _candidates(
    rules: _Rules,
    number: int,
    teacher: nn.Module,
    images: Tensor,
    judge: _Judge,
    options: Mapping[str, Any],
    progress: Progress | None,
) -> list[tuple[Candidate, nn.Module]]:
    """The students of a round that are smaller than its teacher, with their scores."""
    made = []
    for place, ratio in enumerate(rules.ratios, 1):
        where = f"round {number} of {rules.rounds}, cut {place} of {len(rules.ratios)}"

        def told(what: str, done: int, total: int, where: str = where) -> None:
            if progress is not None:
                progress(f"{where}: {what}", done, total)

        found = compress(teacher, images, pruning_ratio=ratio, progress=told, **options)
        report = found.report
        if report.parameters < report.parameters_teacher and report.kept:
            score = judge.score(found.student)
            sizes = report.flops, report.parameters, report.seconds
            made.append((Candidate(number, ratio, score, *sizes), found.student))
    return made


def _nothing(rules: _Rules, made: Sequence[tuple[Candidate, nn.Module]]) -> str:
    """Why the first round has no student."""
    if not made:
        return f"ratios must remove a channel or more, got {list(rules.ratios)}, which remove none"
    best = max((candidate for candidate, _ in made), key=lambda each: each.score)
    return (
        f"lowest_score must be reached by a ratio of the first round, got {rules.lowest_score:g} "
        f"where the best, {best.ratio}, has {best.score:.4g}"
    )


def _checked(
    ratios: object,
    rounds: int,
    flops: float | None,
    lowest_score: float | None,
    style: Style,
) -> _Rules:
    if isinstance(ratios, str | Mapping) or not isinstance(ratios, Iterable):
        raise TypeError(f"ratios must be several shares, such as [0.1, 0.2], got {ratios!r}")
    found = tuple(ratios)
    if not found:
        raise ValueError("ratios must not be empty")
    for ratio in found:
        check_ratio("prune_iteratively, each of ratios", ratio, style)
    if not isinstance(rounds, Integral) or isinstance(rounds, bool):
        raise TypeError(f"rounds must be an integer, got {rounds!r}")
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1, got {rounds}")
    for name, value, most in (("flops", flops, 1), ("lowest_score", lowest_score, 100)):
        if value is None:
            continue
        if not isinstance(value, Real) or isinstance(value, bool):
            raise TypeError(f"{name} must be a number, got {value!r}")
        if not 0 < value <= most:
            raise ValueError(f"{name} must be above 0 and at most {most}, got {value}")
    return _Rules(found, int(rounds), flops, lowest_score)


def _check_reachable(rules: _Rules, result: IterativeResult) -> None:
    if rules.lowest_score is not None and rules.lowest_score > result.teacher_score:
        raise ValueError(
            f"lowest_score must be at most the teacher's own, {result.teacher_score:.4g}, got "
            f"{rules.lowest_score:g}"
        )


def _labels(given: Tensor | None, entry: Entry) -> Tensor | None:
    """The classes of all images, int64 [N] beside them, or None."""
    if given is not None:
        check_labels("prune_iteratively", given, len(entry.images))
    found = entry.labels if given is None else given
    if found is None:
        return None
    check_range("prune_iteratively", found, _num_classes(entry))
    return found.to(entry.images.device).long()


def _num_classes(entry: Entry) -> int:
    return scores_of("prune_iteratively", entry.teacher, entry.images[:1]).shape[1]


def _parted(
    entry: Entry,
    labels: Tensor | None,
    score_images: Tensor | None,
    score_labels: Tensor | None,
    batch_size: int,
    seed: int,
) -> tuple[Tensor, _Judge]:
    """Which images a method sees, int64 on the CPU, and those that students are scored on."""
    count, model = len(entry.images), entry.teacher
    order = torch.arange(count, device="cpu")
    if score_images is None:
        if score_labels is not None:
            raise ValueError("score_labels must go with score_images, got them alone")
        if count < 2:
            raise ValueError(
                "prune_iteratively: images must be at least 2, of which one is held out, or come "
                f"with score_images, got {count}"
            )
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(count, generator=generator, device="cpu")
        number = math.ceil(_HELD_OUT * count)
        seen, held_out = (each.sort().values for each in (order[number:], order[:number]))
        return seen, _judge(model, entry.images[held_out], _of(labels, held_out), batch_size)
    check_images("prune_iteratively, score_images", score_images, model, trace(model))
    if score_labels is not None:
        check_labels("prune_iteratively, score_labels", score_labels, len(score_images))
        check_range("prune_iteratively, score_labels", score_labels, _num_classes(entry))
    return order, _judge(model, score_images.to(entry.images.device), score_labels, batch_size)


def _of(labels: Tensor | None, which: Tensor) -> Tensor | None:
    return None if labels is None else labels[which.to(labels.device)]


def _judge(model: nn.Module, images: Tensor, labels: Tensor | None, batch_size: int) -> _Judge:
    """Images to be scored on, by labels where there are some."""
    if labels is not None:
        return _Judge(images, labels, "labels")
    (scores,) = computed(model, images[None], batch_size)  # [1, M, classes]
    return _Judge(images, scores[0].argmax(1), "agreement")
