"""Three Gram matrices per layer hold everything that a linear layer objective needs.

With U = im2col of a layer's input, [C_in kH kW, N H_out W_out] (and a last row of ones where a bias
is solved):

    G_SS = U_S U_S^T        G_TS = U_T U_S^T        G_TT = U_T U_T^T

Without an activation every objective of `fsc.layers.objectives` is a quadratic in the weight whose
coefficients are linear in these three, so that ratios, mixing weights and supports are re-solved
without touching an image again.
"""

import copy

import torch
from torch import Tensor

import fsc_ext
from fsc import ranks
from fsc.layers.objectives import Objective
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import FactoredQuadratic, GramQuadratic

# Sums over images and pixels are kept in float64 whatever the precision of the network.
ACCUMULATOR = torch.float64


class Moments:
    """The Gram matrices of a layer's inputs; they add up over batches and machines.

    Args:
        patch: the geometry of the layer.
        device: where its inputs are.
    """

    def __init__(self, patch: Patch, device: torch.device | str = "cpu") -> None:
        """Starts from zero images."""
        self.patch = patch
        self.num_images = 0
        size = patch.dim
        self.gram_student = torch.zeros(size, size, dtype=ACCUMULATOR, device=device)  # U_S U_S^T
        self.gram_cross = torch.zeros_like(self.gram_student)  # U_T U_S^T
        self.gram_teacher = torch.zeros_like(self.gram_student)  # U_T U_T^T

    def accumulate(self, input_teacher: Tensor, input_student: Tensor) -> None:
        """Takes up the inputs of one batch, [N, C_in, H, W] or [N, C_in] each."""
        fsc_ext.gram_accumulate_(
            self.gram_student,
            self.gram_cross,
            self.gram_teacher,
            input_student,
            input_teacher,
            kernel_size=self.patch.kernel_size,
            stride=self.patch.stride,
            padding=self.patch.padding,
            dilation=self.patch.dilation,
        )
        self.num_images += len(input_teacher)

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        ranks.add_up(self.gram_student, self.gram_cross, self.gram_teacher)
        self.num_images = ranks.total(self.num_images)

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both sets of images together.

        Raises:
            ValueError: the two belong to layers of different geometry.
        """
        if self.patch != other.patch:
            raise ValueError(
                f"moments must be of one geometry to be added, got {self.patch} and {other.patch}"
            )
        total = copy.copy(self)
        total.gram_student = self.gram_student + other.gram_student
        total.gram_cross = self.gram_cross + other.gram_cross
        total.gram_teacher = self.gram_teacher + other.gram_teacher
        total.num_images = self.num_images + other.num_images
        return total

    def matrices(self, objective: Objective) -> tuple[Tensor, Tensor, Tensor]:
        """H, B and D of the objective, [dim, dim] each.

        N L(W) = tr(W H W^T) - 2 tr(W B^T W_T^T) + tr(W_T D W_T^T), with
        H = sum w [(1-b)^2 G_TT + b^2 G_SS + b(1-b)(G_TS + G_TS^T)],
        B = sum w [a(1-b) G_TT + ab G_TS + (1-a)(1-b) G_TS^T + (1-a)b G_SS],
        D = sum w [a^2 G_TT + (1-a)^2 G_SS + a(1-a)(G_TS + G_TS^T)].
        """
        hessian, mixed, own = (torch.zeros_like(self.gram_student) for _ in range(3))
        for term in objective.terms:
            a, b, w = term.alpha, term.beta, term.weight
            self._add(hessian, w * (1 - b) ** 2, w * b * (1 - b), w * b * (1 - b), w * b**2)
            self._add(mixed, w * a * (1 - b), w * a * b, w * (1 - a) * (1 - b), w * (1 - a) * b)
            self._add(own, w * a**2, w * a * (1 - a), w * a * (1 - a), w * (1 - a) ** 2)
        return hessian, mixed, own

    def _add(self, total: Tensor, *shares: float) -> None:
        """Adds the given shares of G_TT, G_TS, G_TS^T and G_SS."""
        grams = (self.gram_teacher, self.gram_cross, self.gram_cross.mT, self.gram_student)
        for share, gram in zip(shares, grams, strict=True):
            if share:
                total.add_(gram, alpha=share)

    def quadratic(self, objective: Objective, weight_teacher: Tensor) -> GramQuadratic:
        """The objective as a quadratic in the student's weight.

        Args:
            objective: one of `fsc.layers.objectives`.
            weight_teacher: the teacher's weight, bias as last column, [C_out, dim] float64.
        """
        hessian, mixed, own = self.matrices(objective)
        constant = (weight_teacher @ own * weight_teacher).sum(1)
        return GramQuadratic(hessian, weight_teacher @ mixed, constant, self.num_images)


class Columns:
    """The columns of a layer's inputs themselves, for layers with fewer columns than rows.

    Where N H_out W_out is below C_in kH kW a Gram matrix has more entries than what it summarises;
    the solvers then work in the smaller space.

    Args:
        patch: the geometry of the layer.
    """

    def __init__(self, patch: Patch) -> None:
        """Starts from zero images."""
        self.patch = patch
        self.num_images = 0
        self.teacher: list[Tensor] = []  # [dim, columns of the batch] each
        self.student: list[Tensor] = []

    def accumulate(self, input_teacher: Tensor, input_student: Tensor) -> None:
        """Takes up the inputs of one batch, [N, C_in, H, W] or [N, C_in] each."""
        self.teacher.append(self.patch.columns(input_teacher))
        self.student.append(self.patch.columns(input_student))
        self.num_images += len(input_teacher)

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.teacher = [ranks.side_by_side(torch.cat(self.teacher, 1), 1)]
        self.student = [ranks.side_by_side(torch.cat(self.student, 1), 1)]
        self.num_images = ranks.total(self.num_images)

    def quadratic(self, objective: Objective, weight_teacher: Tensor) -> FactoredQuadratic:
        """The objective by its columns; the terms stand side by side, scaled by sqrt(weight)."""
        teacher = torch.cat(self.teacher, 1).to(ACCUMULATOR)  # [dim, R]
        student = torch.cat(self.student, 1).to(ACCUMULATOR)
        columns, target = [], []
        for term in objective.terms:
            root = term.weight**0.5
            mixed_teacher, mixed_student = fsc_ext.soft_cross_mix(
                teacher, student, term.alpha, term.beta
            )
            columns.append(root * mixed_student)
            target.append(root * (weight_teacher @ mixed_teacher))
        return FactoredQuadratic(torch.cat(columns, 1), torch.cat(target, 1), self.num_images)


def layer_statistics(
    patch: Patch, num_columns: int, num_terms: int = 1, device: torch.device | str = "cpu"
) -> Moments | Columns:
    """The representation of a layer's inputs that costs fewer multiplications to solve.

    Args:
        patch: the geometry of the layer.
        num_columns: columns of all images, N H_out W_out.
        num_terms: terms of the objective; each brings its own columns to the factored form.
        device: where the layer's inputs are.
    """
    dim, columns = patch.dim, num_columns * num_terms
    # Gram: three products and an inverse; factored: one R x R inverse. Eliminating half the
    # channels touches dim x dim, or dim x R with twice the products, once per channel.
    removed = patch.in_channels // 2
    gram = 3 * dim**2 * num_columns + dim**3 + removed * patch.group_size * dim**2
    factored = 2 * dim * columns**2 + columns**3 + 2 * removed * patch.group_size * dim * columns
    return Moments(patch, device) if gram <= factored else Columns(patch)
