"""Filter pruning by the L1 norm, without any data (Li et al., 2017, "Pruning Filters ...")."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

import fsc_ext
from fsc.channels.cutting import cut_channels
from fsc.channels.groups import ChannelGroup
from fsc.channels.norms import largest_first
from fsc.methods.base import Outcome, Task
from fsc.schemes import Decoupling, DropBlocks, QuantizedScheme, SparseScheme
from fsc.schemes.blocks import without_blocks
from fsc.schemes.decoupling import decouple


def largest_channels(
    model: nn.Module, groups: Sequence[ChannelGroup], counts: Mapping[str, int]
) -> dict[str, Tensor]:
    """The channels of largest L1 norm; those that must stay come first.

    Args:
        model: the teacher.
        groups: its channel groups.
        counts: name of each group that loses channels -> how many stay.

    Returns:
        For each of them the kept channels in increasing order, [count].
    """
    kept = {}
    for group in groups:
        if group.name in counts:
            order = largest_first(model, group)
            kept[group.name] = order[: counts[group.name]].sort().values
    return kept


def keep_largest_weights(student: nn.Module, scheme: SparseScheme) -> None:
    """Sets all but the largest magnitudes of every layer of the scheme to zero, in place."""
    for name, count in scheme.kept.items():
        weight = student.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        fsc_ext.keep_topk_(weight.detach(), count)


def without_the_rest(task: Task) -> tuple[nn.Module, dict[str, Tensor]]:
    """A copy of the teacher without the filters or blocks that go, or with layers decoupled.

    Returns:
        (it, the channels that stay of every group that lost some).

    Raises:
        ValueError: the scheme removes single weights or bits.
    """
    student = copy.deepcopy(task.teacher)
    if isinstance(task.scheme, DropBlocks):
        without_blocks(student, task.scheme, task.images[:1])
        return student, {}
    if isinstance(task.scheme, Decoupling):
        decouple(student, task.scheme)
        return student, {}
    kept = largest_channels(task.teacher, task.groups, task.channels_left())
    cut_channels(student, task.groups, kept)
    return student, kept


@dataclass(frozen=True)
class L1Norm:
    """The data-free baseline, "L1-norm" in the tables: nothing is recovered.

    Lifecycle:
        1. rank the channels of every group by the L1 norm of the filters that make them;
        2. cut the smallest out of a copy of the teacher, with all that goes with them.

    For a scheme of single weights the smallest magnitudes of every layer are set to zero, as the
    Cross Distillation paper does for its unstructured tables. For a scheme of blocks the student is
    the teacher without them, for one that decouples layers the teacher with those.
    """

    takes_blocks: ClassVar[bool] = True
    takes_decoupling: ClassVar[bool] = True
    cannot_take: ClassVar[tuple[type, ...]] = (QuantizedScheme,)

    def compress(self, task: Task) -> Outcome:
        """Cuts the smallest filters out of a copy of the teacher."""
        if isinstance(task.scheme, SparseScheme):
            student = copy.deepcopy(task.teacher)
            keep_largest_weights(student, task.scheme)
            return Outcome(student.eval(), {})
        student, kept = without_the_rest(task)
        return Outcome(student.eval(), kept)
