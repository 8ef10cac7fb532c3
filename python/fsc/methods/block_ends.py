"""Where the blocks of a student end, and where those of its teacher that they stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fsc.channels.copies import Copies
from fsc.layers.pointwise_layer import mixes
from fsc.methods.block_layers import Blocks, ending_layers, is_flat
from fsc.methods.recalibration import running_norms
from fsc.methods.stage_matching import stage_end, stages
from fsc.networks.observed import Observed
from fsc.networks.operations import BATCH_NORM
from fsc.networks.stages import is_passed_by_all
from fsc.walking.meeting import Meeting
from fsc.wording import shown


@dataclass(frozen=True)
class Ends:
    """Block ends that match, and those that do not.

    Attributes:
        meetings: of both networks, one a block.
        left: name of each other layer of the student that ends a block, and of each BatchNorm that
            is not taken anew -> why it is left.
        norms: where both read what a BatchNorm normalises that was not folded.
    """

    meetings: list[Meeting] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    norms: list[Meeting] = field(default_factory=list)


@dataclass(frozen=True)
class Match:
    """A teacher and a student with BatchNorm folded, and where they meet.

    Attributes:
        teacher: with its graph.
        student: the same for the student, which is to be changed.
        ends: where both meet, and what is left.
        rows: name of a layer of the student -> its output channels that are aligned.
    """

    teacher: Observed
    student: Observed
    ends: Ends
    rows: dict[str, Tensor]


def find_ends(
    teacher: Observed, student: Observed, blocks: Blocks | Sequence[tuple[str, str]]
) -> Ends:
    """Match the block ends of two networks.

    Args:
        teacher: with BatchNorm folded.
        student: the same for the student.
        blocks: see `fsc.FSKD.align`.

    Raises:
        ValueError: a pair names no layer.
    """
    ends = Ends()
    if blocks == "stages":
        pairs = stages(teacher, student, ends.left)
    elif isinstance(blocks, str):
        pairs = _pairs(teacher, ending_layers(student, blocks), ends.left)
    else:
        pairs = {other: name for name, other in _checked(teacher, student, blocks)}
    for name, original in pairs.items():
        found = _meeting(teacher, student, (original, name), blocks)
        if isinstance(found, str):
            ends.left[name] = found
        else:
            ends.meetings.append(found)
    return ends


def _pairs(teacher: Observed, names: Sequence[str], left: dict[str, str]) -> dict[str, str]:
    """The teacher's layer of each of the student's: that of its name, or whose place it took."""
    found: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        prefixes = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
        original = next((prefix for prefix in prefixes if prefix in teacher.nodes), None)
        if original is not None:
            # Of several layers in the place of one the last one ends the block.
            earlier = [n for n, other in found.items() if other == original]
            for each in earlier:
                del found[each]
                left[each] = f"{name!r}, behind it, ends what stands for the teacher's {original!r}"
            found[name] = original
    if not found and names:
        return _in_order(teacher, names, left)
    missing = [name for name in names if name not in found and name not in left]
    left |= dict.fromkeys(missing, "the teacher has no layer of that name; say in blocks which")
    return found


def _in_order(teacher: Observed, names: Sequence[str], left: dict[str, str]) -> dict[str, str]:
    """Pairs of networks that share no name, where both have as many layers."""
    others = [n for n in teacher.nodes if mixes(teacher.module(n)) and not is_flat(teacher, n)]
    if len(others) == len(names):
        return dict(zip(names, others, strict=True))
    why = (
        f"no names are shared, and the teacher has {len(others)} such layers, not {len(names)}; "
        "say in blocks which"
    )
    left |= dict.fromkeys(names, why)
    return {}


def _checked(
    teacher: Observed, student: Observed, blocks: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    pairs = [tuple(pair) for pair in blocks]
    for pair in pairs:
        if len(pair) != 2:
            raise ValueError(
                f"blocks must be pairs (teacher's layer, student's layer), got {shown(pair)}"
            )
        for network, name, whose in ((teacher, pair[0], "teacher"), (student, pair[1], "student")):
            if name not in network.nodes:
                raise ValueError(
                    f"blocks must name convolutions and Linears of the {whose}, got {shown(name)}"
                )
    twice = [name for _, name in pairs if sum(name == other for _, other in pairs) > 1]
    if twice:
        raise ValueError(f"blocks must name each layer of the student once, got {twice[0]!r} twice")
    return pairs  # type: ignore[return-value]


def _meeting(
    teacher: Observed, student: Observed, names: tuple[str, str], blocks: object
) -> Meeting | str:
    """Where two layers meet, or why they do not."""
    original, name = names
    for network, own, whose in ((teacher, original, "teacher's "), (student, name, "")):
        if own in network.shared:
            return f"{whose}{network.shared[own]}"
    if not mixes(student.module(name)):
        return "it mixes no channels"
    if is_flat(student, name):
        return "a Linear that sees one column an image has too few of them"
    if teacher.has_norm(original) != student.has_norm(name):
        return f"a BatchNorm follows one of it and the teacher's {original!r}, and not the other"
    there, here = teacher.nodes[original], student.nodes[name]
    if blocks == "residual":
        sums = teacher.addition(original), student.addition(name)
        if sums[0] is None or sums[1] is None:
            return f"the teacher's {original!r} goes into no addition"
        there, here = sums[0], sums[1]
    elif blocks == "stages":
        there, here = stage_end(teacher, original), stage_end(student, name)
        if is_passed_by_all(there) != is_passed_by_all(here):
            return f"a shortcut goes past one of it and the teacher's {original!r}, not the other"
    if student.pixels(name, here) != teacher.pixels(original, there):
        given, wanted = student.shapes[here], teacher.shapes[there]
        return f"it gives {given} for an image, the teacher's {original!r} {wanted}"
    return Meeting(there, student.nodes[name], here, names)


def matched(
    ends: Ends, maps: Mapping[str, Tensor | str], teacher: Observed, student: Observed
) -> Match:
    """Block ends with the channels that meet there, and those of each layer that are aligned.

    Channels that are masked stay so. What has no map is left, and so are grouped layers of which
    some groups have more channels than others that are not masked.

    Args:
        ends: of both networks.
        maps: the teacher's channel of every output channel of a layer, or why none is known.
        teacher: with BatchNorm folded.
        student: the same for the student.
    """
    done = Ends([], dict(ends.left), ends.norms)
    rows: dict[str, Tensor] = {}
    for meeting in ends.meetings:
        original, name = meeting.names
        found, layer = maps[name], student.module(name)
        if isinstance(found, str):
            done.left[name] = found
            continue
        alive, groups = _alive(layer), getattr(layer, "groups", 1)
        counts = (alive // (len(found) // groups)).bincount(minlength=groups)
        if not len(alive) or len(counts.unique()) > 1:
            done.left[name] = "all of its channels are masked, or more in one group than in another"
            continue
        rows[name] = alive
        every = torch.arange(teacher.channels(original), device="cpu")
        is_same = torch.equal(found.cpu(), every)
        done.meetings.append(replace(meeting, channels=None if is_same else found))
    return Match(teacher, student, done, rows)


def _alive(layer: Any) -> Tensor:
    """The output channels of a layer that are not zero for every input."""
    weight = layer.weight.detach()
    if getattr(layer, "transposed", False):
        weight = weight.unflatten(0, (layer.groups, -1)).transpose(1, 2).flatten(0, 1)
    is_dead = (weight.flatten(1) == 0).all(1)
    if layer.bias is not None:
        is_dead &= layer.bias.detach() == 0
    return (~is_dead).nonzero().flatten()


def find_norms(ends: Ends, copies: Copies, teacher: Observed, student: Observed) -> None:
    """Adds the BatchNorms of a student that stand before their layers, with the teacher's.

    Args:
        ends: of both networks.
        copies: knows which of the teacher's channels the layers of the student have.
        teacher: with the other BatchNorms folded.
        student: the same for the student.
    """
    norms = running_norms(student.model)
    counts = Counter(node.target for node in student.graph.nodes)
    calls = {str(node.target): node for node in student.graph.nodes if node.target in norms}
    others = {str(node.target): node for node in teacher.graph.nodes if node.op == "call_module"}
    for name, node in calls.items():
        own, there = student.module(name), others.get(name)
        original: Any = None if there is None else teacher.module(name)
        if there is None or not isinstance(original, BATCH_NORM) or original.running_mean is None:
            ends.left[name] = "the teacher has no BatchNorm of that name with statistics"
            continue
        if counts[name] > 1:
            ends.left[name] = "it is called more than once, and its statistics stay"
            continue
        found = copies.carried(name, own.num_features)
        mean = own.running_mean
        if found is None or not torch.equal(original.running_mean[found.to(mean.device)], mean):
            ends.left[name] = "its statistics are not those of the teacher, and stay"
            continue
        sources = there.all_input_nodes[0], node.all_input_nodes[0]
        channels = None if len(found) == original.num_features else found
        ends.norms.append(Meeting(sources[0], node, sources[1], (name, name), channels))
