"""A layer objective as a quadratic in the layer's weight, by its matrices or by its columns.

N L(W) = tr(W H W^T) - 2 tr(W C^T) + const, W [C_out, dim] with the bias as last column, in float64.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from fsc.solvers.elimination import (
    DampedInverse,
    DenseInverse,
    FactoredInverse,
    damped_factor,
)


class Quadratic(Protocol):
    """What the closed form asks of an objective, in whichever form it is held."""

    num_images: int

    def of_channels(self, channels: slice) -> "Quadratic":
        """The same objective for some of the output channels."""

    def hessian_on(self, rows: Tensor) -> Tensor:
        """H on some rows, [rows, rows], a fresh tensor."""

    def row_losses(self, weight: Tensor) -> Tensor:
        """The share of each output channel in N L(W), [C_out], at a weight [C_out, dim]."""

    def losses_at_zero(self) -> Tensor:
        """The same at weight zero, [C_out]."""

    def loss(self, weight: Tensor) -> float:
        """The objective's value at a weight [C_out, dim]."""

    def gradient(self, weight: Tensor) -> Tensor:
        """Gradient of the objective, 2 (W H - C) / N, [C_out, dim]."""

    def mean_curvature(self) -> float:
        """Mean of diag(H)."""

    def minimum_near(self, anchor: Tensor, rows: Tensor, delta: float) -> Tensor:
        """The weight on `rows` that minimises N L(W) + delta || W - anchor ||_F^2."""

    def damped_inverse(self, delta: float) -> DampedInverse:
        """(H + delta I)^-1, ready for elimination."""

    def minimum_and_inverse(self, anchor: Tensor, delta: float) -> tuple[Tensor, DampedInverse]:
        """`minimum_near` on all rows and `damped_inverse`, of one factorisation."""


@dataclass
class GramQuadratic:
    """The objective by its matrices."""

    hessian: Tensor  # H [dim, dim]
    target: Tensor  # C = W_T B [C_out, dim]
    constant: Tensor  # [C_out], the objective of each output channel at weight zero
    num_images: int

    def of_channels(self, channels: slice) -> "GramQuadratic":
        """The same objective for some of the output channels."""
        return replace(self, target=self.target[channels], constant=self.constant[channels])

    def hessian_on(self, rows: Tensor) -> Tensor:
        """H on some rows, [rows, rows], a fresh tensor."""
        return self.hessian[rows][:, rows]

    def row_losses(self, weight: Tensor) -> Tensor:
        """The share of each output channel in N L(W), [C_out], at a weight [C_out, dim]."""
        return ((weight @ self.hessian - 2 * self.target) * weight).sum(1) + self.constant

    def losses_at_zero(self) -> Tensor:
        """The same at weight zero, [C_out]."""
        return self.constant

    def loss(self, weight: Tensor) -> float:
        """The objective's value at a weight [C_out, dim]."""
        return float(self.row_losses(weight).sum()) / self.num_images

    def gradient(self, weight: Tensor) -> Tensor:
        """Gradient of the objective, 2 (W H - C) / N, [C_out, dim]."""
        return (weight @ self.hessian - self.target) * (2.0 / self.num_images)

    def mean_curvature(self) -> float:
        """Mean of diag(H)."""
        return float(self.hessian.diagonal().mean())

    def minimum_near(self, anchor: Tensor, rows: Tensor, delta: float) -> Tensor:
        """The weight on `rows`, [C_out, rows], by one Cholesky factorisation of rows x rows."""
        target, anchor = self.target[:, rows], anchor[:, rows]
        return _by_matrix(self.hessian_on(rows), target, anchor, delta)[0]

    def damped_inverse(self, delta: float) -> DampedInverse:
        """(H + delta I)^-1 as a matrix."""
        return DenseInverse(damped_factor(self.hessian, delta))

    def minimum_and_inverse(self, anchor: Tensor, delta: float) -> tuple[Tensor, DampedInverse]:
        """`minimum_near` on all rows and `damped_inverse`, of one factorisation."""
        weight, lower = _by_matrix(self.hessian, self.target, anchor, delta)
        return weight, DenseInverse(lower)


@dataclass
class FactoredQuadratic:
    """The objective by its columns, N L(W) = || W Z - T ||_F^2, for fewer columns than rows."""

    columns: Tensor  # Z [dim, R]
    target: Tensor  # T [C_out, R]
    num_images: int

    def of_channels(self, channels: slice) -> "FactoredQuadratic":
        """The same objective for some of the output channels."""
        return replace(self, target=self.target[channels])

    def hessian_on(self, rows: Tensor) -> Tensor:
        """H on some rows, [rows, rows], a fresh tensor."""
        columns = self.columns[rows]
        return columns @ columns.T

    def row_losses(self, weight: Tensor) -> Tensor:
        """The share of each output channel in N L(W), [C_out], at a weight [C_out, dim]."""
        return (weight @ self.columns - self.target).square().sum(1)

    def losses_at_zero(self) -> Tensor:
        """The same at weight zero, [C_out]."""
        return self.target.square().sum(1)

    def loss(self, weight: Tensor) -> float:
        """The objective's value at a weight [C_out, dim]."""
        return float(self.row_losses(weight).sum()) / self.num_images

    def gradient(self, weight: Tensor) -> Tensor:
        """Gradient of the objective, 2 (W Z - T) Z^T / N, [C_out, dim]."""
        residual = weight @ self.columns - self.target  # [C_out, R]
        return residual @ self.columns.T * (2.0 / self.num_images)

    def mean_curvature(self) -> float:
        """Mean of diag(Z Z^T)."""
        return float(self.columns.square().sum() / len(self.columns))

    def minimum_near(self, anchor: Tensor, rows: Tensor, delta: float) -> Tensor:
        """The weight on `rows`, [C_out, rows], by one Cholesky factorisation of R x R."""
        return _by_columns(self.columns[rows], self.target, anchor[:, rows], delta)[0]

    def damped_inverse(self, delta: float) -> DampedInverse:
        """(Z Z^T + delta I)^-1 through the smaller R x R system."""
        lower = damped_factor(self.columns.T @ self.columns, delta)
        return FactoredInverse(self.columns, lower, delta)

    def minimum_and_inverse(self, anchor: Tensor, delta: float) -> tuple[Tensor, DampedInverse]:
        """`minimum_near` on all rows and `damped_inverse`, of one factorisation."""
        weight, lower = _by_columns(self.columns, self.target, anchor, delta)
        return weight, FactoredInverse(self.columns, lower, delta)


def _by_matrix(
    hessian: Tensor, target: Tensor, anchor: Tensor, delta: float
) -> tuple[Tensor, Tensor]:
    """The minimum near an anchor [C_out, n], and the factor [n, n] that gave it."""
    lower = damped_factor(hessian, delta)
    right = target + delta * anchor  # [C_out, n]
    return torch.cholesky_solve(right.T, lower).T, lower


def _by_columns(
    columns: Tensor, target: Tensor, anchor: Tensor, delta: float
) -> tuple[Tensor, Tensor]:
    """The same by columns [n, R], and the factor [R, R]."""
    lower = damped_factor(columns.T @ columns, delta)
    residual = target - anchor @ columns  # [C_out, R]
    correction = torch.cholesky_solve(residual.T, lower).T
    return anchor + correction @ columns.T, lower
