"""What an operation that was run makes of the labels of its inputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fsc.channels.dependence import origins
from fsc.channels.label_shapes import broadcasts, filled, lines, repeats, varying
from fsc.channels.labels import MADE_BY_NONE, NONE, Labels, present


@dataclass(frozen=True)
class Meeting:
    """One operation, in which labels meet.

    Attributes:
        known: where labels are joined and frozen.
        name: what reasons call the operation.
    """

    known: Labels
    name: str

    def results(
        self,
        run: Callable[[Sequence[Tensor]], Sequence[Tensor]],
        marks: list[Tensor],
        dtype: torch.dtype,
        shapes: list[torch.Size],
        others: Sequence[Tensor],
    ) -> list[Tensor]:
        """The labels of every result.

        Args:
            run: the operation, from the inputs that have labels to its results.
            marks: the labels of those inputs.
            dtype: of these.
            shapes: of the results.
            others: its inputs without labels.
        """
        found = [filled(result) for result in self._combined(run, marks, dtype, shapes)]
        self._tie_parts(found)
        for result in found:
            self._freeze_fixed(result, others)
            self._keep_rectangular(result)
        return found

    def _combined(
        self,
        run: Callable[[Sequence[Tensor]], Sequence[Tensor]],
        marks: list[Tensor],
        dtype: torch.dtype,
        shapes: list[torch.Size],
    ) -> list[Tensor]:
        """Labels of every result; what meets in one value is joined, what is mixed is frozen."""
        together = origins(run, marks, dtype)
        if together is None:
            for mark in marks:
                self.known.freeze(
                    mark, f"{self.name} decides by their values, and without some otherwise"
                )
            return [torch.full(shape, NONE, device="cpu") for shape in shapes]
        if not any(bool(origin.mixed.any()) for origin in together):
            return [origin.labels for origin in together]
        results = [(torch.full_like(origin.labels, NONE), torch.Size()) for origin in together]
        for number, mark in enumerate(marks):
            alone = [m if i == number else torch.full_like(m, NONE) for i, m in enumerate(marks)]
            parts = origins(run, alone, dtype)
            assert parts is not None
            if any(bool(part.mixed.any()) for part in parts):
                self.known.freeze(mark, f"{self.name} mixes them: without some the others change")
                continue
            results = [
                self._met(result, (part.labels, mark.shape))
                for result, part in zip(results, parts, strict=True)
            ]
        return [labels for labels, _ in results]

    def _met(
        self, first: tuple[Tensor, torch.Size], second: tuple[Tensor, torch.Size]
    ) -> tuple[Tensor, torch.Size]:
        """Joins the labels that two inputs of some shapes bring to the same values."""
        (one, shape), (other, other_shape) = first, second
        repeated = other_repeated = False
        if broadcasts(one.shape, shape, other_shape):
            repeated, other_repeated = repeats(shape, other), repeats(other_shape, one)
        both = (one != NONE) & (other != NONE)
        for is_repeated, labels in ((repeated, one), (other_repeated, other)):
            if is_repeated:
                # A mask of one channel: it stays, and the channels that it meets are not joined.
                self.known.freeze(
                    labels[both], "one of them meets many others, as a mask over pixels does"
                )
        if not repeated and not other_repeated:
            self.known.join(one[both], other[both])
            if broadcasts(one.shape, shape, other_shape) and shape:
                # Such as channels of zeros, with which a shortcut was widened.
                alone = (one == NONE) != (other == NONE)
                for labels in (one[alone], other[alone]):
                    self.known.freeze(labels, MADE_BY_NONE)
        kept, filled = (other, one) if repeated else (one, other)
        larger = max(shape, other_shape, key=math.prod) if shape else other_shape
        return torch.where(kept == NONE, filled, kept), larger

    def _tie_parts(self, results: list[Tensor]) -> None:
        """Equal parts of one value, as `chunk` gives them, lose the same channels."""
        for part in results[1:]:
            if part.shape == results[0].shape:
                both = (part != NONE) & (results[0] != NONE)
                self.known.join(results[0][both], part[both])

    def _freeze_fixed(self, labels: Tensor, others: Sequence[Tensor]) -> None:
        """Channels that meet a tensor of a size of its own must stay."""
        for other in others:
            if not broadcasts(labels.shape, other.shape):
                continue
            sizes = [1] * (labels.ndim - other.ndim) + list(other.shape)
            if any(sizes[axis] > 1 for axis in varying(labels)):
                self.known.freeze(
                    labels,
                    f"{self.name} brings a tensor that no layer makes, such as one that is given",
                )

    def _keep_rectangular(self, labels: Tensor) -> None:
        """Where channels stand along several axes, only whole slices along one of them can go."""
        labels = self.known.roots(labels)
        axes = varying(labels)
        if len(axes) < 2:
            return
        found = {axis: present(lines(labels, axis)[:, 0]) for axis in axes}
        is_image = labels.ndim == 4 and 1 in axes
        self.known.along(labels, 1 if is_image else max(axes, key=lambda axis: len(found[axis])))
