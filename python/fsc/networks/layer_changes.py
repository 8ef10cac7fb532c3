"""What became of every layer of a teacher in its student: channels and weights that stay."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from fsc.networks.decoupling import ends_of
from fsc.networks.operations import CONVOLUTION


@dataclass(frozen=True)
class LayerChange:
    """A convolution or linear layer before and after; none stays of one that is gone.

    Attributes:
        name: in the teacher.
        channels_teacher: that it made.
        channels: that it makes in the student.
        weights_teacher: numbers in its weight, zeros too; biases do not count.
        weights: likewise in the student, of both layers where it was decoupled.
        nonzero: those of the student's that are not zero.
    """

    name: str
    channels_teacher: int
    channels: int
    weights_teacher: int
    weights: int
    nonzero: int


def layer_changes(teacher: nn.Module, student: nn.Module) -> list[LayerChange]:
    """Compare every convolution and linear layer of a teacher with what its student has for it.

    Args:
        teacher: the network.
        student: with layers of the same names where they still are.

    Returns:
        One change a layer, in the order in which the teacher's modules stand.

    Example:
        >>> before, after = nn.Sequential(nn.Linear(3, 4)), nn.Sequential(nn.Linear(3, 2))
        >>> change = layer_changes(before, after)[0]
        >>> (change.name, change.channels_teacher, change.channels)
        ('0', 4, 2)
    """
    found, ends = dict(student.named_modules()), ends_of(student)
    return [
        LayerChange(
            name,
            _channels(layer),
            _channels(found.get(ends.get(name, name))),
            sum(weight.numel() for weight in _weights(layer)),
            sum(weight.numel() for weight in _weights(found.get(name))),
            sum(int(weight.count_nonzero()) for weight in _weights(found.get(name))),
        )
        for name, layer in teacher.named_modules()
        if isinstance(layer, CONVOLUTION | nn.Linear)
    ]


def _channels(layer: nn.Module | None) -> int:
    if isinstance(layer, CONVOLUTION):
        return layer.out_channels
    return layer.out_features if isinstance(layer, nn.Linear) else 0


def _weights(layer: nn.Module | None) -> list[nn.Parameter]:
    if layer is None:
        return []
    return [value for value in layer.parameters() if value.ndim > 1]
