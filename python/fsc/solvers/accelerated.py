"""The objective behind a ReLU by preconditioned conjugate gradients: tens of steps, not thousands.

    N L(W) = || relu(W Z + O) - T ||_F^2,    G = R Z^T with R = 1[S > 0] (S - T), S = W Z + O

The curvature of the ReLU's loss never exceeds that of the linear one, so that a step of
-G (Z Z^T + delta I)^-1 descends (majorise-minimise), and (Z Z^T + delta I)^-1 is a good
preconditioner. Output channels are problems of their own: each has its own conjugate direction
(Polak and Ribiere, restarted where it would point uphill) and its own exact step along it. One step
costs two matrix products, as one of gradient descent does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import fsc_ext
from fsc.arguments import check_fields
from fsc.solvers.closed_form import Selection, check_damping, check_selection


@dataclass(frozen=True)
class Accelerated:
    """Conjugate gradients behind the ReLU, from the solution of the closed form.

    Args:
        selection: how channels are chosen, as in `ClosedForm`.
        damping: pull of the start towards the teacher's weight, in images.
        steps: at most so many steps a layer.
        tolerance: a layer is done once a step lowers its loss by less than this share.

    Raises:
        ValueError: a value is out of its range.
    """

    selection: Selection = "obs"
    damping: float = 15.0
    steps: int = 100
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        """Refuses what cannot be done before any work is."""
        check_fields(self)
        check_selection(self.selection)
        check_damping(self.damping)
        _check_limits(self.steps, self.tolerance)


@dataclass
class ReluProblem:
    """A layer's objective behind a ReLU, by its columns.

    Several terms stand side by side: relu(c x) = c relu(x) for c > 0, so that a term of weight w
    is one whose columns, offset and target are multiplied by sqrt(w).
    """

    columns: Tensor  # Z [dim, R], the im2col of what the student's layer sees
    target: Tensor  # T [C_out, R], after the activation
    offset: Tensor | None  # O [C_out, R], what is added before the activation; None: nothing
    num_images: int

    def output(self, weight: Tensor, rows: Tensor | None = None) -> Tensor:
        """S [C_out, R] at a weight [C_out, dim], or [C_out, rows] on some rows of the columns."""
        output = weight @ (self.columns if rows is None else rows)
        return output if self.offset is None else output.add_(self.offset)

    def loss(self, weight: Tensor) -> float:
        """The objective's value at a weight [C_out, dim]."""
        output = self.output(weight)
        return float((output.relu_() - self.target).double().square().sum()) / self.num_images


def conjugate_gradient_relu(
    problem: ReluProblem,
    start: Tensor,
    rows: Tensor,
    *,
    steps: int = 100,
    tolerance: float = 1e-4,
    on_step: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Minimises the objective over the weights that are zero outside `rows`.

    Args:
        problem: the layer's objective.
        start: where to start, [C_out, dim] of the columns' dtype; the least-squares solution of
            the linear objective is a good one.
        rows: row numbers of the columns that may be used, [rows].
        steps: at most so many steps.
        tolerance: stops once a step lowers the loss by less than this share of it.
        on_step: called with the number of every step done and the objective after it.

    Returns:
        The weight, [C_out, dim], zero outside `rows`; its loss is not above that of `start`.

    Raises:
        ValueError: steps or tolerance is out of its range.
    """
    _check_limits(steps, tolerance)
    columns = problem.columns[rows].contiguous()  # [rows, R]
    preconditioner = _damped_inverse(columns)  # [rows, rows]
    weight = start[:, rows]
    output = problem.output(weight, columns)  # [C_out, R]
    residual = torch.where(output > 0, output - problem.target, 0)
    directions = _Directions(preconditioner)
    before = float("inf")
    for step in range(1, steps + 1):
        direction = directions.next(residual @ columns.T)  # [C_out, rows]
        lengths, losses, residual = fsc_ext.line_search_relu_(
            output, direction @ columns, problem.target
        )
        weight = torch.addcmul(weight, lengths[:, None], direction)
        loss = float(losses.sum())
        if on_step is not None:
            on_step(step, loss / problem.num_images)
        if before - loss <= tolerance * loss:
            break
        before = loss
    solution = torch.zeros_like(start)
    solution[:, rows] = weight
    return solution


class _Directions:
    """Conjugate directions, one for each output channel."""

    def __init__(self, preconditioner: Tensor) -> None:
        self.preconditioner = preconditioner  # [rows, rows]
        self.last: tuple[Tensor, Tensor, Tensor] | None = None

    def next(self, gradient: Tensor) -> Tensor:
        """The direction that follows on a gradient, [C_out, rows] both."""
        descent = gradient @ self.preconditioner
        direction = -descent
        if self.last is not None:
            last_gradient, last_descent, last_direction = self.last
            change = ((gradient - last_gradient) * descent).sum(1)
            length = (last_gradient * last_descent).sum(1)
            share = torch.where(length > 0, change / length, 0).clamp_min(0)  # [C_out]
            conjugate = torch.addcmul(direction, share[:, None], last_direction)
            downhill = (conjugate * gradient).sum(1) < 0
            direction = torch.where(downhill[:, None], conjugate, direction)
        self.last = gradient, descent, direction
        return direction


def _damped_inverse(columns: Tensor) -> Tensor:
    """(Z Z^T + delta I)^-1, [rows, rows], inverted in float64.

    Where the images leave the weight undetermined delta bounds the steps; a tenth of the mean
    curvature gave the lowest losses on layers of ResNet-56.
    """
    gram = (columns @ columns.T).double()
    gram.diagonal().add_(0.1 * float(gram.diagonal().mean()) or 1.0)
    return torch.cholesky_inverse(torch.linalg.cholesky(gram)).to(columns.dtype)


def _check_limits(steps: int, tolerance: float) -> None:
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance must be in [0, 1), got {tolerance}")
