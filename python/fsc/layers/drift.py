"""What the student's shortcuts lack of the teacher's, as a part of a linear layer's target.

A layer whose output is added to a shortcut can make up for what the student's shortcut has lost:

    N L(W) = sum of weight * || W_T U_T + R - W U_S ||_F^2        R = shortcut_T - shortcut_S

with U_T, U_S the im2col of the mixed inputs. R [C_out, N H_out W_out] moves the linear term and the
constant of the layer's quadratic; its Hessian stays.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight

from fsc import ranks
from fsc.layers.moments import ACCUMULATOR
from fsc.layers.objectives import Objective
from fsc.solvers.blocks import BlockQuadratic
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import FactoredQuadratic, GramQuadratic


class DriftMoments:
    """R U_T^T and R U_S^T, [C_out, dim] each, dim that of a group; they add up over batches.

    Args:
        layer: the teacher's layer, grouped or not.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        """Starts from zero images."""
        self.layer = layer
        self.patch = Patch.of_group(layer)
        shape = layer.out_channels, self.patch.dim
        device = layer.weight.device
        self.with_teacher = torch.zeros(shape, dtype=ACCUMULATOR, device=device)
        self.with_student = torch.zeros_like(self.with_teacher)
        self.squares = torch.zeros(shape[0], dtype=ACCUMULATOR, device=device)  # of R

    def accumulate(self, input_teacher: Tensor, input_student: Tensor, drift: Tensor) -> None:
        """Takes up one batch: inputs [N, C_in, H, W] each, drift [N, C_out, H_out, W_out]."""
        self.with_teacher += self._times(drift, input_teacher)
        self.with_student += self._times(drift, input_student)
        self.squares += drift.to(ACCUMULATOR).square().sum((0, 2, 3))

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        ranks.add_up(self.with_teacher, self.with_student, self.squares)

    def added(
        self, quadratic: GramQuadratic, objective: Objective, weight_teacher: Tensor
    ) -> GramQuadratic:
        """The quadratic of a layer of one group, the drift in its target; weight [C_out, dim]."""
        target, constant = self._parts(objective, weight_teacher)
        return replace(
            quadratic, target=quadratic.target + target, constant=quadratic.constant + constant
        )

    def added_to_blocks(
        self, quadratic: BlockQuadratic, objective: Objective, weight_teacher: Tensor
    ) -> BlockQuadratic:
        """The quadratic of a grouped layer, the drift in its target; weight [groups, rows, dim]."""
        target, constant = self._parts(objective, weight_teacher.flatten(0, 1))
        return replace(
            quadratic,
            target=quadratic.target + target.view_as(quadratic.target),
            constant=quadratic.constant + constant.view_as(quadratic.constant),
        )

    def _parts(self, objective: Objective, weight_teacher: Tensor) -> tuple[Tensor, Tensor]:
        """What the drift adds to the linear term [C_out, dim] and to the constant [C_out]."""
        target, constant = torch.zeros_like(self.with_teacher), torch.zeros_like(self.squares)
        for term in objective.terms:
            a, b, w = term.alpha, term.beta, term.weight
            seen_by_student = (1 - b) * self.with_teacher + b * self.with_student
            seen_by_teacher = a * self.with_teacher + (1 - a) * self.with_student
            target += w * seen_by_student
            constant += w * (2 * (weight_teacher * seen_by_teacher).sum(1) + self.squares)
        return target, constant

    def _times(self, drift: Tensor, input: Tensor) -> Tensor:
        """R U^T [C_out, dim]: what a convolution's weight gradient is."""
        layer, patch = self.layer, self.patch
        products = conv2d_weight(
            input,
            list(layer.weight.shape),
            drift,
            patch.stride,
            patch.padding,
            patch.dilation,
            layer.groups,
        ).flatten(1)
        if patch.bias:
            products = torch.cat([products, drift.sum((0, 2, 3))[:, None]], 1)
        return products.to(ACCUMULATOR)


class DriftColumns:
    """R itself, for layers that are solved by their columns."""

    def __init__(self) -> None:
        """Starts from zero images."""
        self.batches: list[Tensor] = []  # [C_out, columns of the batch] each

    def accumulate(self, input_teacher: Tensor, input_student: Tensor, drift: Tensor) -> None:
        """Takes up one batch: drift [N, C_out, H_out, W_out]."""
        self.batches.append(drift.transpose(0, 1).flatten(1))

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.batches = [ranks.side_by_side(torch.cat(self.batches, 1), 1)]

    def added(
        self, quadratic: FactoredQuadratic, objective: Objective, weight_teacher: Tensor
    ) -> FactoredQuadratic:
        """The quadratic with the drift in its target."""
        drift = torch.cat(self.batches, 1).to(ACCUMULATOR)  # [C_out, R]
        terms = [term.weight**0.5 * drift for term in objective.terms]
        return replace(quadratic, target=quadratic.target + torch.cat(terms, 1))
