"""FSKD for a student that somebody else has made."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.channels.copies import Copies
from fsc.channels.groups import ChannelGroup, labelled_groups
from fsc.methods.aligner import Aligner
from fsc.methods.base import LayerReport, Task
from fsc.methods.block_ends import Ends, Match, find_ends, find_norms, matched
from fsc.methods.joint_alignment import train_together
from fsc.methods.opening import AnyBlocks, Channels, opening
from fsc.methods.recalibration import running_norms
from fsc.methods.soundness import Yardstick
from fsc.methods.two_networks import say
from fsc.networks.gathering import Images
from fsc.networks.observed import Observed, channels_given
from fsc.networks.wrappers import in_dtype_of
from fsc.progress import Progress
from fsc.walking.meeting import Meeting, walk_to_meetings

if TYPE_CHECKING:
    from fsc.methods.fskd import FSKD


def aligned(
    method: FSKD,
    teacher: nn.Module,
    student: nn.Module,
    images: Images,
    blocks: AnyBlocks,
    channels: Channels | None,
    batch_size: int,
    seed: int,
    progress: Progress | None,
) -> nn.Module:
    """Align the blocks of any student; see `fsc.FSKD.align`."""
    given = (teacher, student, images)
    asked = (blocks, channels, batch_size, seed, progress)
    own, other, task = opening("align", method, method, given, None, *asked)
    match = blocks_matched("align", own.teacher, other.teacher, own.images[:1], blocks, channels)
    with torch.no_grad():
        yardstick = Yardstick(own.teacher, own.images, task.batch_size)
        before = yardstick.distance(match.student.model)
        _, said = recover(method, match, task)
        after = yardstick.distance(match.student.model)
    said += left_in_words("align", match)
    say(said, yardstick, after, before, 3)
    return in_dtype_of(other.given, match.student.model.eval())


def blocks_matched(
    function: str,
    teacher: nn.Module,
    student: nn.Module,
    example: Tensor,
    blocks: AnyBlocks,
    channels: Channels | None = None,
) -> Match:
    """`match_of`, of which something must come.

    Raises:
        ValueError: no block can be matched, or an argument does not fit.
    """
    match = match_of(teacher, student, example, blocks, channels)
    if not match.ends.meetings:
        raise ValueError(
            f"{function}: student must have a block that ends as one of the teacher's, got none: "
            f"{_in_words(match.ends.left) or 'no layer where such a block ends'}"
        )
    return match


def left_in_words(function: str, match: Match) -> list[str]:
    """What is to be said of blocks that are not aligned."""
    left = match.ends.left
    return [f"{function}: left as they are: {_in_words(left)}"] if left else []


def recover(method: FSKD, match: Match, task: Task) -> tuple[list[LayerReport], list[str]]:
    """Find every Q and let the layers of a student absorb them.

    Args:
        method: how.
        match: both networks; the student's layers are changed.
        task: images, seed, journal and progress.

    Returns:
        (a report for each layer, but where they are trained together; what is to be said).
    """
    teacher, student = match.teacher, match.student

    def walked(shown: Tensor, meetings: list[Meeting]) -> list[LayerReport]:
        aligner = Aligner(student.model, match.rows, method.damping, len(shown), method.intercept)
        walk_to_meetings(
            (teacher.model, teacher.graph),
            (student.model, student.graph),
            ranks.share(shown),
            meetings,
            aligner,
            batch_size=task.batch_size,
            memory_budget=task.memory_budget,
            progress=task.progress,
        )
        return aligner.reports

    reports: list[LayerReport] = []
    for shown in method.passes(teacher.model, task.images, task.seed):
        if method.sgd is None:
            reports = walked(shown, [*match.ends.meetings, *match.ends.norms])
            continue
        if match.ends.norms:
            walked(shown, match.ends.norms)
        if not match.ends.meetings:
            return [], []
        return [], train_together(match, method.sgd, method.intercept, replace(task, images=shown))
    return reports, []


def match_of(
    teacher: nn.Module,
    student: nn.Module,
    example: Tensor,
    blocks: AnyBlocks = "convolutions",
    channels: Channels | None = None,
) -> Match:
    """Fold copies of two networks in plain modules and find where they meet.

    Args:
        teacher: it is not changed.
        student: it is not changed.
        example: one image.
        blocks: see `fsc.FSKD.align`.
        channels: the same.

    Raises:
        ValueError: a name is none, or channels do not fit.
    """
    own, other = (Observed.folded(network, example) for network in (teacher, student))
    ends = find_ends(own, other, blocks)
    return matched(ends, _maps(own, other, ends, channels or {}, example), own, other)


def _maps(
    teacher: Observed, student: Observed, ends: Ends, channels: Channels, example: Tensor
) -> dict[str, Tensor | str]:
    """The teacher's channels of every layer of the student that has one; adds BatchNorms."""
    pairs = {name: name for name in student.nodes if name in teacher.nodes}
    pairs |= {meeting.names[1]: meeting.names[0] for meeting in ends.meetings}
    unknown = [name for name in channels if name not in pairs]
    if unknown:
        raise ValueError(
            "channels must name layers of the student that have one of the teacher, got "
            f"{unknown[0]!r}"
        )
    # A BatchNorm that was not folded has the channels of layers before it, whoever named them.
    named = () if running_norms(student.model) else channels
    is_narrow = any(
        student.channels(name) != teacher.channels(other)
        for name, other in pairs.items()
        if name not in named
    )
    groups: Sequence[ChannelGroup] = ()
    if is_narrow:
        groups = labelled_groups(copy.deepcopy(teacher.model).cpu(), (example.cpu(),))
    copies = Copies(teacher.model, groups)
    maps: dict[str, Tensor | str] = {}
    for name in student.nodes:  # in execution order
        if name in channels:
            sizes = student.channels(name), teacher.channels(pairs[name])
            given = channels_given("channels", name, channels[name], *sizes)
            copies.keep(pairs[name], given)
            maps[name] = given
        elif name in pairs:
            maps[name] = copies.of(pairs[name], student.module(name))
    find_norms(ends, copies, teacher, student)
    return maps


def _in_words(left: Mapping[str, str]) -> str:
    return "; ".join(f"{name!r} ({why})" for name, why in left.items())
