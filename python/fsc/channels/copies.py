"""Which channels of a teacher the layers of a student still have, seen by their weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fsc.channels.cutting import filters
from fsc.channels.groups import ChannelGroup, columns_left, rows_left
from fsc.channels.labels import NONE
from fsc.networks.operations import CONVOLUTION

# Copies point in one direction to float32; a scale is a BatchNorm that was folded otherwise.
_TOLERANCE = 1e-4
_OTHER_ORDER = "a layer before it has its channels in another order; say in channels which it gives"


class Copies:
    """The output channels of a student's layers as numbers of those in the teacher.

    Layers are asked for in the order of execution, as channels that a layer reads are known from
    those that were written. A filter is the copy of another where it is a multiple of it, on the
    channels that the student still reads.

    Args:
        teacher: with BatchNorm folded, as the student.
        groups: of the teacher.
    """

    def __init__(self, teacher: nn.Module, groups: Sequence[ChannelGroup]) -> None:
        """Knows nothing yet."""
        self.teacher, self.groups = teacher, groups
        self._kept: dict[str, Tensor] = {}
        self._permuted: set[str] = set()  # groups whose channels are in another order

    def of(self, name: str, layer: Any) -> Tensor | str:
        """The teacher's channels of a layer's output, int64 [C_out], or why none are known.

        Args:
            name: of the layer in the teacher.
            layer: the student's.
        """
        original: Any = self.teacher.get_submodule(name)
        mine, other = filters(layer), filters(original)
        if len(mine) == len(other):
            return self._of_all(name, mine, other)
        known = rows_left(self.groups, self._kept).get(name)
        if known is not None and len(known) == len(mine):
            return _OTHER_ORDER if self._is_permuted(name, "writer") else known
        columns = self._columns(name, layer, original)
        if isinstance(columns, str):
            return columns
        there, here = other.detach()[:, columns].flatten(1), mine.detach().flatten(1)
        found = copied_rows(there, here) if there.shape[1] == here.shape[1] else None
        if found is None:
            return (
                f"its {len(mine)} filters are no copies of {len(mine)} of the teacher's "
                f"{len(other)}; say in channels which they are"
            )
        self.keep(name, found)
        return found

    def _of_all(self, name: str, mine: Tensor, other: Tensor) -> Tensor:
        """The channels of a layer as wide as the teacher's: in its order, but for other copies."""
        alike = mine.shape == other.shape
        found = copied_rows(other.detach().flatten(1), mine.detach().flatten(1)) if alike else None
        rows = torch.arange(len(mine), device="cpu")
        if found is None or torch.equal(found, rows):
            return rows
        self.keep(name, found)
        return found

    def carried(self, name: str, size: int) -> Tensor | None:
        """The teacher's channels that a BatchNorm of so many in the student normalises, or None."""
        if self._is_permuted(name, "carrier"):
            return None
        slots = [
            slot.mask(group.mask(self._kept[group.name]))
            for group in self.groups
            if group.name in self._kept
            for slot in group.slots
            if slot.role == "carrier" and slot.name == name
        ]
        whole: Any = self.teacher.get_submodule(name)
        stays = torch.ones(whole.num_features, dtype=torch.bool, device="cpu")
        for each in slots:
            stays &= each
        found = stays.nonzero().flatten()
        return found if len(found) == size else None

    def keep(self, name: str, rows: Tensor) -> None:
        """Remember which output channels of the teacher's layer stay, int64 [C_out]."""
        for group in self.groups:
            slot = next((s for s in group.slots if s.role == "writer" and s.name == name), None)
            if slot is not None:
                channels = slot.channels[rows.cpu()]
                self._kept[group.name] = channels[channels != NONE].unique()
                if bool((rows.diff() < 0).any()):
                    self._permuted.add(group.name)

    def _is_permuted(self, name: str, role: str) -> bool:
        slots = [s for g in self.groups if g.name in self._permuted for s in g.slots]
        return any(slot.name == name and slot.role == role for slot in slots)

    def _columns(self, name: str, layer: Any, original: Any) -> Tensor | str:
        """The numbers of the teacher's columns that a student's filters have, or why not."""
        own, before = filters(layer).shape[1], filters(original).shape[1]
        if own == before:
            return torch.arange(own, device=original.weight.device)
        if self._is_permuted(name, "reader"):
            return _OTHER_ORDER
        stays = columns_left(self.groups, self._kept).get(name)
        if stays is not None and isinstance(original, CONVOLUTION):
            stays = stays.view(original.groups, -1)[0]
        if stays is None or int(stays.sum()) != own:
            return (
                f"which {own} of the teacher's {before} channels its filters read is not known; "
                "say in channels which it writes"
            )
        return stays.nonzero().flatten().to(original.weight.device)


def copied_rows(original: Tensor, copies: Tensor) -> Tensor | None:
    """The row that each copy is a positive multiple of; the one nearest in length of several.

    Args:
        original: [C, dim].
        copies: [C', dim].

    Returns:
        int64 [C'] on the CPU; None where a copy is of no row, or of the same one as another, or of
        several alike.

    Example:
        >>> copied_rows(torch.eye(3), torch.tensor([[0.0, 0.0, 2.0], [1.0, 0.0, 0.0]]))
        tensor([2, 0])
    """
    one, other = copies.double(), original.to(copies.device).double()
    lengths, others = one.norm(dim=1), other.norm(dim=1)
    cosines = nn.functional.normalize(one) @ nn.functional.normalize(other).T  # [C', C]
    is_copy = cosines >= 1 - _TOLERANCE
    gaps = (lengths[:, None] - others).abs() / lengths[:, None].clamp_min(1e-300)
    gaps = torch.where(is_copy, gaps, torch.inf)
    least, rows = gaps.min(1)
    alike = (is_copy & (gaps <= least[:, None] + _TOLERANCE)).sum(1)
    if bool((alike != 1).any()) or len(rows.unique()) != len(rows):
        return None
    return rows.cpu()
