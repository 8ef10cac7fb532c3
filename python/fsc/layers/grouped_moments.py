"""The Gram matrices of a grouped convolution: one of each kind a group, as groups mix nothing.

The channels of a depthwise convolution are groups like any other, of kH kW unknowns each. The
operator takes them one by one; to unfold all at once and multiply them in a batch took 1 to 10
times as long, for 96 channels of 56x56 pixels as for 960 of 7x7.
"""

import torch
from torch import Tensor

import fsc_ext
from fsc.layers.moments import ACCUMULATOR, Moments
from fsc.layers.objectives import Objective
from fsc.solvers.blocks import BlockQuadratic
from fsc.solvers.patch import Patch


class GroupedMoments(Moments):
    """The moments of every group of a convolution, [groups, dim, dim] each.

    Args:
        patch: the geometry of one group.
        groups: how many there are.
        device: where the inputs are.
    """

    def __init__(self, patch: Patch, groups: int, device: torch.device | str = "cpu") -> None:
        """Starts from zero images."""
        self.patch = patch
        self.num_images = 0
        shape = (groups, patch.dim, patch.dim)
        self.gram_student = torch.zeros(shape, dtype=ACCUMULATOR, device=device)
        self.gram_cross = torch.zeros_like(self.gram_student)
        self.gram_teacher = torch.zeros_like(self.gram_student)

    def accumulate(self, input_teacher: Tensor, input_student: Tensor) -> None:
        """Takes up the inputs of one batch, [N, C_in, H, W] each."""
        size = self.patch.in_channels
        grams = zip(self.gram_student, self.gram_cross, self.gram_teacher, strict=True)
        for group, (student, cross, teacher) in enumerate(grams):
            channels = slice(group * size, (group + 1) * size)
            fsc_ext.gram_accumulate_(
                student,
                cross,
                teacher,
                input_student[:, channels],
                input_teacher[:, channels],
                kernel_size=self.patch.kernel_size,
                stride=self.patch.stride,
                padding=self.patch.padding,
                dilation=self.patch.dilation,
            )
        self.num_images += len(input_teacher)

    def quadratic(  # type: ignore[override]
        self, objective: Objective, weight_teacher: Tensor
    ) -> BlockQuadratic:
        """The objective as a quadratic of each group.

        Args:
            objective: one of `fsc.layers.objectives`.
            weight_teacher: the teacher's weight, bias as last column, [groups, rows, dim] float64.
        """
        hessian, mixed, own = self.matrices(objective)
        constant = (weight_teacher @ own * weight_teacher).sum(-1)
        return BlockQuadratic(hessian, weight_teacher @ mixed, constant, self.num_images)
