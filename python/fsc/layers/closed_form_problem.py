"""A layer in closed form on moments: the objective before the activation."""

import torch
from torch import Tensor, nn

from fsc.layers.layer_problem import (
    Plan,
    Pose,
    Shortcuts,
    Solution,
    all_filters,
    from_matrix,
    to_matrix,
)
from fsc.layers.statistics import Statistics
from fsc.solvers.closed_form import ClosedForm, choose_channels, rows_of, solve_on_rows
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import Quadratic
from fsc.solvers.sparse import choose_weights, solve_on_mask


class ClosedFormProblem:
    """Chooses channels, filters or weights by what their removal costs, then solves on the rest.

    Args:
        pose: the layer and its objective.
        solver: selection and damping.
    """

    def __init__(self, pose: Pose, solver: ClosedForm) -> None:
        """Chooses between Gram matrices and columns, whichever is cheaper."""
        self.pose = pose
        self.solver = solver
        self.patch = Patch.of(pose.layer)
        self.statistics = Statistics(pose)

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up the inputs of one batch, [N, C_in, H, W] each, and its shortcuts."""
        self.statistics.accumulate(input_teacher, input_student, shortcuts)

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.statistics.join_ranks()

    def solve(self, plan: Plan) -> Solution:
        """The minimiser under the plan."""
        layer = self.pose.layer
        teacher = to_matrix(layer)  # [C_out, dim]
        quadratic = self.statistics.quadratic(teacher)
        if plan.num_weights is None and plan.weights is None:
            weight, channels, filters = minimise(quadratic, teacher, self.patch, plan, self.solver)
        else:
            mask = self._mask(quadratic, teacher, plan)
            weight = solve_on_mask(quadratic, teacher, mask, self.solver.damping)
            channels, filters = plan.channels, all_filters(layer)
        return judged(quadratic, layer, weight, channels, filters)

    def _mask(self, quadratic: Quadratic, teacher: Tensor, plan: Plan) -> Tensor:
        """The single weights that stay, bool [C_out, dim]; a bias always does."""
        prunable, solver = self.patch.dim - int(self.patch.bias), self.solver
        if plan.weights is None:
            assert plan.num_weights is not None
            return choose_weights(
                quadratic, teacher, prunable, plan.num_weights, solver.selection, solver.damping
            )
        mask = torch.ones_like(teacher, dtype=torch.bool)
        given = teacher.new_zeros(len(teacher) * prunable, dtype=torch.bool)
        given[plan.weights] = True
        mask[:, :prunable] = given.view(len(teacher), prunable)
        return mask


def judged(
    quadratic: Quadratic, layer: nn.Conv2d, weight: Tensor, channels: Tensor, filters: Tensor
) -> Solution:
    """A solved weight [C_out, dim] as a solution, with what it leaves of the objective."""
    before = to_matrix(layer) * (weight != 0)
    nothing = float(quadratic.losses_at_zero().sum()) / quadratic.num_images
    errors = [quadratic.loss(before), quadratic.loss(weight), nothing]
    return Solution(*from_matrix(weight, layer), channels, filters, *errors)


def minimise(
    quadratic: Quadratic, teacher: Tensor, patch: Patch, plan: Plan, solver: ClosedForm
) -> tuple[Tensor, Tensor, Tensor]:
    """Weight [C_out, dim], kept input channels and kept output filters of a structured plan."""
    channels = plan.channels
    if plan.num_channels is not None:
        channels = choose_channels(
            quadratic, teacher, patch, plan.num_channels, solver.selection, solver.damping
        )
    weight = solve_on_rows(quadratic, teacher, rows_of(channels, patch), solver.damping)
    filters = torch.arange(len(weight), device=weight.device)
    if plan.num_filters is not None:
        # Filters are independent problems: what removing one costs is what it explained.
        rises = quadratic.losses_at_zero() - quadratic.row_losses(weight)
        order = rises.argsort(descending=True, stable=True)
        filters = order[: plan.num_filters].sort().values
        gone = weight.new_ones(len(weight), dtype=torch.bool)
        gone[filters] = False
        weight[gone] = 0
    return weight, channels, filters
