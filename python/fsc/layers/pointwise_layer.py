"""A 1x1 convolution behind a layer: found from what the layer gives, and absorbed by it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

import fsc_ext
from fsc import ranks
from fsc.layers.form import Form
from fsc.layers.moments import ACCUMULATOR
from fsc.solvers.pointwise import pointwise


class PointwiseProblem:
    """Q behind some output channels of a student's layer, for what a teacher gives there.

    A grouped convolution mixes within its groups, so its Q has a block a group.

    Args:
        layer: the student's, see `mixes`.
        rows: its output channels that are aligned, [groups, R].
        intercept: whether a bias is found with Q; a layer without one gets none.
    """

    def __init__(self, layer: Any, rows: Tensor, intercept: bool = False) -> None:
        """Starts from zero columns."""
        self.layer, self.rows = layer, rows
        self.has_bias = intercept and layer.bias is not None
        self.columns = 0
        size = rows.shape[1] + self.has_bias
        self._all = _is_all(layer, rows)
        zero = torch.zeros(size, size, dtype=ACCUMULATOR, device=layer.weight.device)
        # G_SS, G_TS and G_TT of every group, with a row of ones where there is a bias.
        self.grams = [(zero.clone(), zero.clone(), zero.clone()) for _ in rows]

    def accumulate(
        self, output_teacher: Tensor, output_student: Tensor, channels: Tensor | None = None
    ) -> None:
        """Takes up one batch of what both give, channel by channel.

        Args:
            output_teacher: the teacher's.
            output_student: the layer's.
            channels: the teacher's of each channel of the layer's, [C_out]; None: the same.
        """
        teacher, student = (as_image(self.layer, o) for o in (output_teacher, output_student))
        for grams, own in zip(self.grams, self.rows, strict=True):
            other = own if channels is None else channels.to(own.device)[own]
            fsc_ext.gram_accumulate_(
                *grams,
                student,
                teacher,
                channels_student=None if self._all else own,
                channels_teacher=None if self._all and channels is None else other,
            )
        self.columns += student[:, 0].numel()

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        ranks.add_up(*(each for grams in self.grams for each in grams))
        self.columns = ranks.total(self.columns)

    def solve(self, damping: float, name: str) -> list[Tensor]:
        """Q of every group, [R, R] each, or [[Q, b], [0, 1]]; of the first rank.

        Args:
            damping: see `fsc.solvers.pointwise`.
            name: of the layer, for the sentence.

        Raises:
            ValueError: float64 cannot hold what the layers give, or cannot tell it apart.
        """
        if ranks.count() == 1:
            return self._solved(damping, name)
        found = ranks.first(lambda: [each.cpu() for each in self._solved(damping, name)])
        return [each.to(self.rows.device) for each in found]

    def _solved(self, damping: float, name: str) -> list[Tensor]:
        precision = torch.finfo(self.layer.weight.dtype).eps
        try:
            return [
                pointwise(student, cross, damping, precision=precision, has_bias=self.has_bias)
                for student, cross, _ in self.grams
            ]
        except torch.linalg.LinAlgError as error:
            raise ValueError(
                f"layer {name} cannot be aligned: its outputs are too large, or the damping is too "
                f"small for them, got {damping:g}"
            ) from error

    def identity(self) -> list[Tensor]:
        """What changes nothing, in the place of what `solve` gives."""
        return [
            torch.eye(len(gram), dtype=gram.dtype, device=gram.device) for gram, *_ in self.grams
        ]

    def error(self, factors: list[Tensor]) -> float:
        """|| Q X_S + b - X_T ||_F^2 over all columns."""
        return sum(
            float((q @ student * q).sum() - 2 * (q * cross).sum() + teacher.trace())
            for q, (student, cross, teacher) in zip(factors, self.grams, strict=True)
        )

    def energy(self) -> float:
        """|| X_T ||_F^2 over all columns."""
        size = self.rows.shape[1]
        return sum(float(teacher[:size, :size].trace()) for _, _, teacher in self.grams)

    def absorbed(self, factors: list[Tensor]) -> "Absorbed":
        """What the layer absorbs."""
        every, size = torch.stack(factors), self.rows.shape[1]
        weight = every[:, :size, :size].to(self.layer.weight.dtype)
        bias = every[:, :size, size].to(weight.dtype) if self.has_bias else None
        return Absorbed(self.layer, self.rows, weight, bias)


class Absorbed:
    """A 1x1 convolution Q that some output channels of a layer absorb (FSKD, Theorem 1).

    Args:
        layer: see `mixes`.
        rows: the channels, [groups, R].
        weight: Q, [groups, R, R].
        bias: b, [groups, R], or None; of a layer with a bias.
    """

    def __init__(
        self, layer: Any, rows: Tensor, weight: Tensor, bias: Tensor | None = None
    ) -> None:
        """Changes nothing."""
        self.layer, self.rows, self.weight, self.bias = layer, rows, weight, bias

    def write(self) -> None:
        """W' = Q W and b' = Q b + b_Q in the place of the layer's own."""
        write_all([self])

    def groups(self) -> list[tuple[Tensor, Tensor | None, Tensor, Tensor | None]]:
        """W, b, Q and b_Q of every group."""
        weight, bias = Form(self.layer).convolution.weight, self.layer.bias
        return [
            (
                weight[own],
                None if bias is None else bias[own],
                factor,
                None if self.bias is None else self.bias[index],
            )
            for index, (own, factor) in enumerate(zip(self.rows, self.weight, strict=True))
        ]

    def take(self, weights: list[Tensor], biases: list[Tensor]) -> None:
        """Writes what the groups have become into the layer."""
        form = Form(self.layer)
        weight = form.convolution.weight.detach().clone()
        for own, group, shifted in zip(self.rows, weights, biases, strict=True):
            weight[own] = group
            if self.layer.bias is not None:
                self.layer.bias[own] = shifted
        self.layer.weight.copy_(form.weight(weight))

    def applied(self, output: Tensor) -> Tensor:
        """What the layer gives with Q, where it gave this without."""
        image, flat = as_image(self.layer, output), self.rows.flatten()
        kernel = self.weight.flatten(0, 1)[:, :, None, None]  # [groups R, R, 1, 1]
        bias = None if self.bias is None else self.bias.flatten()
        own = _channels(image, flat)
        changed = nn.functional.conv2d(own, kernel, bias, groups=len(self.rows))
        if own is not image:
            changed = image.index_copy(1, flat, changed)
        if isinstance(self.layer, nn.Linear):
            changed = changed[..., 0].movedim(1, -1)
        return changed.reshape(output.shape)


@torch.no_grad()
def write_all(absorbed: Sequence[Absorbed]) -> None:
    """All layers absorb theirs, in one call."""
    groups = [one.groups() for one in absorbed]
    every = [group for own in groups for group in own]
    if not every:
        return
    weights, biases = fsc_ext.foreach_absorb_conv1x1(*zip(*every, strict=True))
    begin = 0
    for one, own in zip(absorbed, groups, strict=True):
        end = begin + len(own)
        one.take(weights[begin:end], biases[begin:end])
        begin = end


def mixes(module: nn.Module) -> bool:
    """Whether a layer mixes channels, so that it can absorb what mixes them once more.

    A depthwise convolution mixes nothing: it makes one block with the layer behind it.
    """
    if isinstance(module, nn.Linear):
        return True
    if not isinstance(module, nn.modules.conv._ConvNd):
        return False
    return module.groups == 1 or module.groups < module.in_channels


def as_image(layer: nn.Module, output: Tensor) -> Tensor:
    """What a layer gives, [N, C_out, ...] or [N, ..., C_out], as [N, C_out, H, W]."""
    if isinstance(layer, nn.Linear):
        pixels = output[:, None] if output.ndim == 2 else output.flatten(1, -2)
        return pixels.movedim(-1, 1)[..., None]
    return output if output.ndim == 4 else output.flatten(2)[..., None]


def _is_all(layer: Any, rows: Tensor) -> bool:
    """Whether the rows are all channels of a layer, in their order."""
    count = getattr(layer, "out_channels", len(layer.weight))
    return len(rows) == 1 and rows[0].tolist() == list(range(count))


def _channels(image: Tensor, rows: Tensor) -> Tensor:
    """Some channels of an image, all of them without a copy where they lie one after another."""
    is_all = len(rows) == image.shape[1] and bool((rows.diff() == 1).all())
    return image if is_all and image.is_contiguous() else image.index_select(1, rows)
