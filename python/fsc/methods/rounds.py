"""Rounds of pruning: a network cut further, and what is left of it aligned by FSKD."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from fsc.channels.cutting import cut_channels, mask_channels
from fsc.channels.groups import ChannelGroup
from fsc.channels.proof import channel_groups, check_cut
from fsc.methods.base import Task
from fsc.methods.fskd import FSKD
from fsc.methods.l1_norm import largest_channels
from fsc.methods.training_state import put_back
from fsc.networks import cost, surgery
from fsc.networks.entry import Entry
from fsc.progress import Progress
from fsc.scheme_tables import Style
from fsc.schemes import Scheme
from fsc.schemes.ignoring import Ignored, ignored_layers
from fsc.schemes.structured import channels_left, count_left, structured_of, unit_of


@dataclass(frozen=True)
class MaskedAndCut:
    """A network of a round, once as large as the teacher and once as small as it can be.

    Attributes:
        masked: of the teacher's shapes, BatchNorm folded, with zeros where channels went.
        cut: the same without them, in evaluation mode.
        counts: name of each group of channels that can be pruned -> how many stay.
        kept: which, of those that lost some.
    """

    masked: nn.Module
    cut: nn.Module
    counts: Mapping[str, int]
    kept: Mapping[str, Tensor]


class RoundsOfPruning:
    """Prunes the network of one round for the next.

    Args:
        method: aligns what is left.
        entry: the teacher, and the images that the method sees.
        ignored: layers that stay whole, as for `fsc.compress`.
        round_to: layers keep a multiple of so many channels.
        style: which channels are pruned.
        batch_size: images that go through the networks at once.
        seed: of what the method draws.
        progress: told of the walk.

    Attributes:
        first: the teacher.

    Raises:
        ValueError: there is nothing to prune.
    """

    def __init__(
        self,
        method: FSKD,
        entry: Entry,
        ignored: Ignored,
        round_to: int,
        style: Style,
        batch_size: int,
        seed: int,
        progress: Progress | None,
    ) -> None:
        """Finds the teacher's groups of channels."""
        self.method, self.teacher, self.images = method, entry.teacher, entry.images
        self.round_to, self.batch_size, self.seed = round_to, batch_size, seed
        self.progress = progress
        self.groups = channel_groups(self.teacher, self.images[:1])
        left_alone = ignored_layers("prune_iteratively", ignored, entry.given)
        # What a half would be taken of is what any share is taken of.
        given = (self.teacher, self.groups, 0.5, left_alone)
        scheme = structured_of(*given, ignored=ignored, round_to=round_to, style=style)
        pruned = channels_left(scheme, self.teacher, self.groups)
        self._pruned = {group.name: group for group in self.groups if group.name in pruned}
        folded = copy.deepcopy(self.teacher).eval()
        surgery.fold_batch_norm(folded)
        sizes = {name: group.size for name, group in self._pruned.items()}
        self.first = MaskedAndCut(folded, copy.deepcopy(folded), sizes, {})

    def pruned(
        self,
        network: MaskedAndCut,
        ratio: float,
        from_previous: bool,
        what: str,
        values: Mapping[str, Tensor] | None = None,
    ) -> MaskedAndCut | None:
        """What a network is without a share of its channels; None where that is none of them.

        Args:
            network: of the round before.
            ratio: that goes of the channels of every group that can be pruned.
            from_previous: whether that network ranks the channels and says what those left are to
                give; the teacher does otherwise.
            what: is done, in words.
            values: of the masked network, where it was aligned before; None: it is aligned now.
        """
        counts = {
            name: self._left(group, network.counts[name], ratio)
            for name, group in self._pruned.items()
        }
        if counts == network.counts:
            return None
        ranked, wanted = self.teacher, self.first.masked
        if from_previous and network.kept:
            ranked = wanted = network.masked
        kept = largest_channels(ranked, self.groups, counts)
        masked = copy.deepcopy(network.masked)
        if values is None:
            check_cut(self.teacher, self.groups, kept, self.images[:1])
            self.method.recover(wanted, masked, kept, self._task(what))
        else:
            mask_channels(masked, self.groups, kept)
            put_back(masked, values)
        cut = copy.deepcopy(masked)
        cut_channels(cut, self.groups, kept)
        return MaskedAndCut(masked, cut.eval(), counts, kept)

    def flops(self, network: MaskedAndCut) -> int:
        """The multiply-accumulates of a network for one image."""
        return cost.flops(network.cut, self.images[:1])

    def _task(self, what: str) -> Task:
        def told(part: str, done: int, total: int) -> None:
            if self.progress is not None:
                self.progress(f"{what}: {part}", done, total)

        nothing = Scheme("by turns", {})  # which channels go is known already
        size, seed = self.batch_size, self.seed
        given = (self.teacher, self.images, nothing, size)
        return Task(*given, seed=seed, progress=told, groups=self.groups)

    def _left(self, group: ChannelGroup, count: int, ratio: float) -> int:
        """How many channels stay of so many, where a share of those that can go goes."""
        held = group.size - int(group.free.sum())
        return count_left(count, count - held, ratio, unit_of(group, self.round_to))
