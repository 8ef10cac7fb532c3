"""Matching the mean and deviation of a student's channels to the teacher's.

What BatchNorm's running statistics do when they are taken anew from the student: without labels,
and layer after layer, so that later layers see it. A BatchNorm that is folded left a weight and a
bias to do it with; one that stands before its convolution has its statistics.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from fsc.methods.channel_sums import ChannelSums
from fsc.networks.operations import BATCH_NORM
from fsc.walking.visitor import Layer

# Channels of a smaller share of the teacher's variance carry nothing to be scaled up.
_LEAST_VARIANCE = 1e-6


class ChannelStatistics:
    """Mean and variance of every channel of a value in both networks.

    Args:
        device: where the value is.
        axis: along which its channels lie.
    """

    def __init__(self, device: torch.device | str = "cpu", axis: int = 1) -> None:
        """Starts from zero images."""
        self.axis = axis
        self.teacher, self.student = ChannelSums(device, axis), ChannelSums(device, axis)

    def accumulate(self, teacher: Tensor, student: Tensor) -> None:
        """Takes up one batch, [N, C, ...] each, or [N, ..., C] where the axis is the last."""
        self.teacher.add(teacher)
        self.student.add(student)

    def correction(self) -> tuple[Tensor, Tensor]:
        """Scale and shift [C] that give the student's channels the teacher's statistics.

        Those of all ranks: every rank has to ask.
        """
        (wanted, teacher), (mean, student) = self.teacher.moments(), self.student.moments()
        carries = (student > _LEAST_VARIANCE * teacher) & (teacher > 0)
        scale = torch.where(carries, (teacher / student).sqrt(), 1)
        return scale, torch.where(carries, wanted - scale * mean, 0)


def recalibrate(student: Any, statistics: ChannelStatistics) -> Callable[[Tensor], Tensor]:
    """Writes scale and shift into a convolution or Linear that has a bias.

    Returns:
        The map from outputs computed before to those after, [N, C_out, ...] or [N, ..., C_out].
    """
    scale, shift = (part.to(student.weight.dtype) for part in statistics.correction())
    student.weight.mul_(_by_weight(student, scale))
    student.bias.mul_(scale).add_(shift)

    def change(output: Tensor) -> Tensor:
        shape = (-1, *[1] * (output.ndim - 1 - statistics.axis % output.ndim))
        return output * scale.view(shape) + shift.view(shape)

    return change


def _by_weight(layer: Any, scale: Tensor) -> Tensor:
    """A factor for each output channel in a form that multiplies the weight."""
    if not getattr(layer, "transposed", False):
        return scale.view(-1, *[1] * (layer.weight.ndim - 1))
    rows = layer.in_channels // layer.groups
    own = scale.view(layer.groups, -1).repeat_interleave(rows, 0)  # [C_in, C_out / groups]
    return own.view(*own.shape, *[1] * (layer.weight.ndim - 2))


def renormalise(student: Any, statistics: ChannelStatistics) -> None:
    """Takes the running statistics of a BatchNorm anew, from what the student gives it.

    Not the mean and variance of the few images themselves: those of the teacher, moved and scaled
    as the student's inputs are against the teacher's on the same images, so that what the images
    have of their own cancels. What comes out has the statistics that it has in the teacher.

    Args:
        student: a BatchNorm with running statistics.
        statistics: of its inputs in both networks.
    """
    scale, shift = statistics.correction()  # of the input, [C]
    mean, variance = student.running_mean.double(), student.running_var.double()
    student.running_mean.copy_((mean - shift) / scale)
    widened = (variance + student.eps) / scale.square() - student.eps
    student.running_var.copy_(widened.clamp_min(0))


def running_norms(model: nn.Module) -> set[str]:
    """The BatchNorms of a network that have statistics to take anew."""
    return {
        name
        for name, module in model.named_modules()
        if isinstance(module, BATCH_NORM) and module.running_mean is not None
    }


def is_flat(layer: Layer, value: Tensor) -> bool:
    """Whether a layer is a Linear that sees one column an image."""
    return isinstance(layer.teacher, nn.Linear) and value.ndim == 2
