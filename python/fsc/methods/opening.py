"""What `align` and `teach` begin with: a teacher, a student of any making, and images."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.methods.agreement import check_ranks
from fsc.methods.arguments import as_numbers
from fsc.methods.base import Task
from fsc.methods.block_layers import BLOCKS, Blocks
from fsc.methods.journal import Journal, fingerprint, origin
from fsc.methods.labelling import labels_for
from fsc.methods.two_networks import entered
from fsc.methods.views import check_views
from fsc.networks.entry import Entry
from fsc.networks.gathering import Images
from fsc.networks.modes import evaluation_mode
from fsc.networks.outputs import tensors_of
from fsc.progress import Progress
from fsc.schemes import Scheme
from fsc.wording import shown

AnyBlocks = Blocks | Sequence[tuple[str, str]]
Channels = Mapping[str, Tensor | Sequence[int]]


def opening(
    function: str,
    method: object,
    learner: object,
    networks: tuple[nn.Module, nn.Module, Images],
    labels: Tensor | None,
    blocks: AnyBlocks,
    channels: Channels | None,
    batch_size: int,
    seed: int,
    progress: Progress | None,
    journal: str | os.PathLike[str] | None = None,
) -> tuple[Entry, Entry, Task]:
    """Check what a teacher and any student are given with, and bring it together.

    Args:
        function: who asks, for the sentences.
        method: what all ranks must share of it.
        learner: is given the labels and views.
        networks: the teacher, the student and images, see `fsc.FSKD.align`.
        labels: int64 [N] that the user says they have.
        blocks: as for `fsc.FSKD.align`, and what follows likewise.
        channels: those that the user says the student has.
        batch_size: images that go through a network at once.
        seed: of what is drawn.
        progress: told on the first rank.
        journal: a folder where the work is kept; None: nowhere.

    Returns:
        (the teacher, the student, a task that removes nothing).

    Raises:
        ValueError: an argument does not fit, or the journal is of another call.
        TypeError: an argument is of the wrong type.
    """
    _check_matching(blocks, channels)
    batch_size, seed = as_numbers(batch_size, seed)
    own, other, loaded = entered(function, *networks)
    learned = labels_for(function, learner, labels, loaded, own.teacher, own.images)
    check_views(function, learner, own.teacher, own.images, learned)
    _check_outputs(function, own, other)
    identity = partial(_identity, method, own, other, seed, blocks, channels, learned)
    check_ranks(function, own.images, identity)
    kept = None if journal is None else Journal(journal, identity())
    told = progress if ranks.is_first() else None
    given = (own.teacher, own.images, Scheme("given", {}), batch_size)
    return own, other, Task(*given, seed=seed, progress=told, journal=kept, labels=learned)


def _check_matching(blocks: object, channels: object) -> None:
    """Make sure that blocks and channels are of the kinds that can be read.

    Raises:
        ValueError: blocks are called by another word.
        TypeError: they are something else.
    """
    rule = f"blocks must be {', '.join(BLOCKS)} or pairs of layers, got {shown(blocks)}"
    if isinstance(blocks, str):
        if blocks not in BLOCKS:
            raise ValueError(rule)
    elif not isinstance(blocks, Sequence) or not blocks or not all(map(_are_names, blocks)):
        raise TypeError(rule)
    if not isinstance(channels, Mapping | None):
        raise TypeError(
            "channels must be a dict of layers of the student -> channels of the teacher's, or "
            f"None, got {shown(channels)}"
        )


def _are_names(pair: object) -> bool:
    is_listed = isinstance(pair, Sequence) and not isinstance(pair, str)
    return is_listed and all(isinstance(name, str) for name in pair)  # type: ignore[attr-defined]


def _check_outputs(function: str, own: Entry, other: Entry) -> None:
    """Make sure that both networks give outputs that can be compared, for one image.

    Raises:
        ValueError: they do not.
    """
    shapes = []
    for network in (own.teacher, other.teacher):
        with evaluation_mode(network), torch.no_grad():
            shapes.append([list(each.shape) for each in tensors_of(network(own.images[:1]))])
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{function}: student must give what the teacher gives, {shapes[0]} for one image, got "
            f"{shapes[1]}"
        )


def _identity(
    method: object,
    own: Entry,
    other: Entry,
    seed: int,
    blocks: AnyBlocks,
    channels: Channels | None,
    labels: Tensor | None,
) -> dict[str, Any]:
    """What all ranks must share."""
    shared = origin(method, seed, own.given, own.images, labels)
    shared |= {"student": fingerprint(other.given.state_dict().values()), "blocks": repr(blocks)}
    given = channels or {}
    return shared | {
        "channels": {name: torch.as_tensor(given[name], device="cpu").tolist() for name in given}
    }
