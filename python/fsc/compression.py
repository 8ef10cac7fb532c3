"""`compress`: one call from a teacher and a few images to a smaller student and a report."""

import logging
import os
import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.arguments import as_flag
from fsc.channels.proof import check_cut
from fsc.goal import Goal
from fsc.methods.agreement import check_ranks
from fsc.methods.arguments import as_budget, as_numbers, check_log, check_types
from fsc.methods.base import Method, Task, check_fits
from fsc.methods.block_choice import named_blocks
from fsc.methods.examination import Examination
from fsc.methods.journal import Journal
from fsc.methods.labelling import labels_for
from fsc.methods.unfolding import with_batch_norm
from fsc.methods.views import check_views, originals_for
from fsc.networks.entry import Entry, enter
from fsc.networks.gathering import Images
from fsc.networks.joint_input import as_given
from fsc.networks.modes import evaluation_mode, outside_inference
from fsc.networks.plain import pass_on
from fsc.networks.wrappers import in_dtype_of
from fsc.progress import Log, Progress, telling
from fsc.request import identity, method_of, selection_of
from fsc.result import Report, Result, report_of
from fsc.scheme_tables import Style
from fsc.schemes import AnyScheme, DropBlocks
from fsc.schemes.ignoring import Ignored
from fsc.warning import CompressionWarning

_logger = logging.getLogger(__name__)


def compress(
    teacher: nn.Module,
    images: Images,
    *,
    labels: Tensor | None = None,
    method: Method | str | None = None,
    scheme: AnyScheme | str | os.PathLike[str] | None = None,
    flops: float | None = None,
    parameters: float | None = None,
    pruning_ratio: float | Mapping[str, float] | None = None,
    ignored: Ignored = (),
    round_to: int = 1,
    style: Style = "residual",
    batch_size: int = 64,
    memory_budget: int | None = None,
    seed: int = 0,
    keep_batch_norm: bool = False,
    progress: Progress | bool = True,
    log: Log | None = None,
    journal: str | os.PathLike[str] | None = None,
) -> Result:
    """Compresses a pretrained convolutional network with a handful of images.

    Inside a process group of torch.distributed every rank makes the same call: each takes its share
    of the images, and all get the same student; the first tells and writes.

    Args:
        teacher: a network that torch.fx or torch.export can follow, once `fsc.plain` has rewritten
            what is not of torch.nn, on any device that fsc_ext computes on; it is not changed, and
            the student is made where it is. What torch.compile, DataParallel and the like wrap is
            taken out of them. A network in half precision is solved in float32, and
            its student comes back in half precision.
        images: [N, C, H, W], [N, C, L] or [N, C, D, H, W] of the teacher's dtype (float32 for half
            precision, too) and on its device, normalised as the teacher expects. For a teacher that
            takes several: a tuple of tensors, its arguments, or a dict of tensors, its arguments by
            name or the one dict that it takes, with one N; masks and indices may be integers. Or a
            DataLoader, a Dataset, a list or another iterable of images or batches, or of tuples and
            dicts of them; labels behind them, or under "labels" or "label", go to a method that
            learns them, and what the teacher does not take is dropped. An
            `fsc.images.folder.ImageFolder`, or a Subset of one, is what `views="original-crops"`
            asks for.
        labels: class indices, int64 [N], beside images that come without. Few methods learn them:
            `BackProp` needs them, `KD`, `FitNet` and `MiR(tune_head=True)` do more with them.
        method: one of `fsc.methods`, such as `CrossDistillation(...)` or `MiR(...)`, or its name,
            such as "cd-soft", see `fsc.method_names.NAMES`; by name it takes what its paper states
            for the teacher's family, if that is one of `fsc.models`. None: "default", which is
            `SolveThenTrain()` and takes minutes; "seconds" solves layers alone, and "quarter-hour"
            trains longer.
        scheme: which convolutions keep how many output channels, or how many single weights, or
            which residual blocks go or layers are decoupled, or the name of a published scheme that
            fits the teacher, such as "res-50", or the path of a JSON file; see `fsc.schemes`. At
            most one of this and the next three is given; none of them is `flops=0.5`.
        flops: share of the multiply-accumulates that stays, above 0 and at most 1. Channels go
            where they lose least for what they save, see `fsc.schemes.targets`.
        parameters: share of the parameters that stays, likewise.
        pruning_ratio: share of the channels that goes, of every set of channels alike, or of those
            of some layers; see `fsc.schemes.structured`.
        ignored: layers that keep all channels that they make, with all that would go with them:
            names, patterns such as "head*", types. They read fewer where those before them lose
            some.
        round_to: layers keep a multiple of so many channels.
        style: "residual" prunes all channels that can go; "normal" leaves residual streams, and
            whatever else several layers make together, whole (MiR, Figure 1). Not with a scheme or
            with ratios of some layers.
        batch_size: images that go through the networks at once; the result does not depend on it.
        memory_budget: bytes of memory for activations, of which what six minibatches of the
            largest layer take is kept free to work with; what is beyond goes to disk. None: all
            stays in memory. What cross distillation solves a single layer from comes on top: both
            inputs of a layer that is solved by steps (activation="relu"), or the columns of a layer
            that is solved from them because it sees few pixels, or its matrices. While a method
            crops files, of these decoded; None is 2 GB there.
        seed: seeds whatever the method draws; the same seed gives the same bits, on a GPU where
            cuDNN does (`torch.backends.cudnn.deterministic`).
        keep_batch_norm: whether BatchNorms that the method folds into convolutions are put back
            behind them at the end: the same outputs in evaluation mode, and in train mode a student
            of the teacher's layers, names and all, that is trained as the teacher is.
        progress: True: a line on stderr says what is done, where that is a terminal or a notebook;
            False: none does. Or a function, which is called with (what, done, total).
        log: called by methods that train with ({"loss": ..., "learning_rate": ...}, step), every 10
            steps and after the last, as trackers of experiments are. Steps of all that is trained
            are counted in one row. Others do not call it.
        journal: a folder where cross distillation keeps every layer that it has solved, and methods
            that train their state every 50 steps. A call with the same arguments goes on after the
            last of them, with the bits of an uninterrupted run; damaged files are dropped with a
            warning. Delete it when the student is safe. None: nothing is kept.

    Returns:
        The student, really smaller, in eval mode, and a report.

    Warns:
        CompressionWarning: images are on another scale than the teacher was trained on, constant or
            all the same; a share of the channels was asked for and few could go; a share of the
            cost was to stay and much less does; a method that trains diverged and was run again;
            the student is farther from the teacher than where it started.

    Raises:
        ValueError: images, labels, weights, scheme or model do not fit, the student is not finite,
            or a cut network computes something else than the masked one; the sentence says which.
        TypeError: an argument is of the wrong type.
        OSError: the journal, or what is past the memory budget, cannot be written.
        RankLost: another process of the group has ended, see `fsc.ranks`.

    Example:
        >>> import fsc, torch
        >>> from fsc import models
        >>> teacher = models.build("resnet14").eval()
        >>> images = torch.randn(4, 3, 16, 16)
        >>> report = fsc.compress(teacher, images, method="seconds").report
        >>> 0.49 < report.flops / report.flops_teacher <= 0.5
        True
    """
    with telling(progress) as told, outside_inference():
        check_types(teacher, method)
        check_log(log)
        batch_size, seed = as_numbers(batch_size, seed)
        memory_budget = as_budget(memory_budget)
        keep_batch_norm = as_flag("keep_batch_norm", keep_batch_norm)
        goal = Goal(scheme, flops, parameters, pruning_ratio, ignored, round_to, style)
        entry = enter("compress", teacher, images)
        name = method if isinstance(method, str) else ""
        method = method_of(method, entry.teacher)
        originals = originals_for("compress", method, images)
        learned = labels_for("compress", method, labels, entry.labels, entry.teacher, entry.images)
        check_views("compress", method, entry.teacher, entry.images, learned, originals)
        goal = _fitting(goal, method, entry)
        asked = (entry.given, entry.images, method, goal, seed, learned, originals, keep_batch_norm)
        own = partial(identity, *asked)
        check_ranks("compress", entry.images, own)
        kept = None if journal is None else Journal(journal, own())
        _log_start(entry, method, goal)
        start = time.perf_counter()
        told, log = (told, log) if ranks.is_first() else (None, None)
        settings = (batch_size, memory_budget, seed, told, kept)
        task = _planned(goal, method, entry, learned, *settings)
        task = replace(task, originals=originals, log=log)
        planning = time.perf_counter() - start
        result = _carried_out(method, task, entry.given, planning, keep_batch_norm)
        return replace(result, report=replace(result.report, method_name=name))


def _log_start(entry: Entry, method: Method, goal: Goal) -> None:
    if ranks.is_first():
        names = type(entry.given).__name__, type(method).__name__
        images = len(entry.images), entry.images.device
        said = "compressing %s by %s, %s, from %d images on %s"
        _logger.info(said, *names, goal.in_words, *images)


def _log_end(report: Report) -> None:
    if ranks.is_first():
        _logger.info(
            "compressed in %.1f s: %d of %d parameters and %d of %d multiply-accumulates stay",
            report.seconds,
            report.parameters,
            report.parameters_teacher,
            report.flops,
            report.flops_teacher,
        )


def _fitting(goal: Goal, method: Method, entry: Entry) -> Goal:
    """What is asked for of a network, once it is known that the method can do it."""
    goal = goal.resolved(entry.teacher, entry.images)
    check_fits(method, goal.scheme, goal.given)
    return goal


def _planned(
    goal: Goal,
    method: Method,
    entry: Entry,
    labels: Tensor | None,
    batch_size: int,
    memory_budget: int | None,
    seed: int,
    progress: Progress | None,
    journal: Journal | None,
) -> Task:
    """The task of a call, once it is found what is to stay."""
    given = (entry.teacher, entry.images, batch_size, progress)
    if isinstance(goal.scheme, DropBlocks):
        goal = replace(goal, scheme=named_blocks(goal.scheme, *given, journal))
    plan = goal.plan(entry.given, *given, selection_of(method))
    return Task(
        entry.teacher, entry.images, plan.scheme, batch_size, memory_budget, seed, progress,
        journal, plan.groups, plan.removal, labels, doubts=plan.doubts,
    )  # fmt: skip


def _carried_out(
    method: Method, task: Task, given: nn.Module, planning: float, keep_batch_norm: bool
) -> Result:
    """Solve a task, examined before and after.

    Args:
        method: how.
        task: what.
        given: the network as the user has it, for the student's dtype.
        planning: seconds that it took to find what is to stay.
        keep_batch_norm: whether folded BatchNorms are put back at the end.

    Raises:
        ValueError: the student is not finite, or its cut is not sound.
    """
    with evaluation_mode(task.teacher), torch.no_grad():
        examination = Examination(task)
        doubts = examination.before()
        _warn(doubts)  # now: the user may not want to wait for the end
        start = time.perf_counter()
        outcome = method.compress(task)
        if keep_batch_norm:
            outcome = with_batch_norm(outcome, task)
        seconds = planning + time.perf_counter() - start
        if outcome.kept:
            check_cut(task.teacher, task.groups, outcome.kept, task.images[:1])
        verdict = examination.after(outcome)
    in_dtype_of(given, outcome.student)
    pass_on(task.teacher, outcome.student)
    _warn(verdict.warnings)
    verdict = replace(verdict, warnings=doubts + verdict.warnings)
    report = report_of(method, task, outcome, verdict, seconds)
    _log_end(report)
    return Result(as_given(outcome.student), report)


def _warn(sentences: list[str]) -> None:
    """Warns whoever called `compress`."""
    for sentence in sentences if ranks.is_first() else ():
        warnings.warn(sentence, CompressionWarning, stacklevel=4)
