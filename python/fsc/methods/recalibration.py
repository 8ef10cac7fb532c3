"""Matching the mean and deviation of a student's channels to the teacher's.

What BatchNorm's running statistics do when they are taken anew from the student, for networks whose
BatchNorm is folded: without labels, and layer after layer, so that later layers see it.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Channels of a smaller share of the teacher's variance carry nothing to be scaled up.
_LEAST_VARIANCE = 1e-6


class OutputStatistics:
    """Mean and variance of every output channel of a layer in both networks.

    Args:
        device: where the outputs are.
    """

    def __init__(self, device: torch.device | str = "cpu") -> None:
        """Starts from zero images."""
        self.count = 0
        zero = torch.zeros(1, device=device)
        self.sums: list[Tensor] = [zero, zero]  # [C_out] float64 each
        self.squares: list[Tensor] = [zero, zero]

    def accumulate(self, output_teacher: Tensor, output_student: Tensor) -> None:
        """Takes up the outputs of one batch, [N, C_out, H, W] each."""
        self.count += output_teacher[:, 0].numel()
        for side, output in enumerate((output_teacher, output_student)):
            wide = output.double()
            self.sums[side] = self.sums[side] + wide.sum((0, 2, 3))
            self.squares[side] = self.squares[side] + wide.square().sum((0, 2, 3))

    def correction(self) -> tuple[Tensor, Tensor]:
        """Scale and shift [C_out] that give the student's channels the teacher's statistics."""
        means = [total / self.count for total in self.sums]
        variances = [
            (square / self.count - mean.square()).clamp_min(0)
            for square, mean in zip(self.squares, means, strict=True)
        ]
        teacher, student = variances
        carries = (student > _LEAST_VARIANCE * teacher) & (teacher > 0)
        scale = torch.where(carries, (teacher / student).sqrt(), 1)
        return scale, torch.where(carries, means[0] - scale * means[1], 0)


def recalibrate(student: nn.Conv2d, statistics: OutputStatistics) -> Callable[[Tensor], Tensor]:
    """Writes scale and shift into a layer that has a bias.

    Returns:
        The map from outputs computed before to those after, [N, C_out, H, W].
    """
    assert student.bias is not None
    scale, shift = (part.to(student.weight.dtype) for part in statistics.correction())
    student.weight.mul_(scale[:, None, None, None])
    student.bias.mul_(scale).add_(shift)
    return lambda output: output * scale[:, None, None] + shift[:, None, None]
