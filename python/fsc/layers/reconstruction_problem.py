"""A layer whose channels are chosen by what they add to its output, then least squares."""

import torch
from torch import Tensor

from fsc.layers.closed_form_problem import judged
from fsc.layers.layer_problem import Plan, Pose, Shortcuts, Solution, all_filters, to_matrix
from fsc.layers.moments import layer_statistics
from fsc.solvers.closed_form import rows_of, solve_on_rows
from fsc.solvers.contributions import contributions
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import Quadratic
from fsc.solvers.reconstruction import Reconstruction, channel_scales, chosen_channels


class ReconstructionProblem:
    """Chooses input channels where the plan says so, and fits what stays to the target.

    Args:
        pose: the layer and its objective.
        solver: choice, unknowns and damping.
    """

    def __init__(self, pose: Pose, solver: Reconstruction) -> None:
        """Chooses between Gram matrices and columns, whichever is cheaper."""
        self.pose = pose
        self.solver = solver
        self.patch = Patch.of(pose.layer)
        terms, device = len(pose.objective.terms), pose.layer.weight.device
        self.statistics = layer_statistics(self.patch, pose.num_columns, terms, device)

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up the inputs of one batch, [N, C_in, H, W] each; shortcuts do not count here."""
        self.statistics.accumulate(input_teacher, input_student)

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.statistics.join_ranks()

    def solve(self, plan: Plan) -> Solution:
        """The least-squares weight on the channels that stay."""
        assert plan.num_filters is None and plan.num_weights is None and plan.weights is None
        layer, solver = self.pose.layer, self.solver
        teacher = to_matrix(layer)  # [C_out, dim]
        quadratic = self.statistics.quadratic(self.pose.objective, teacher)
        channels = plan.channels
        if plan.num_channels is not None:
            found = contributions(quadratic, teacher, self.patch)
            channels = chosen_channels(found, plan.num_channels, solver.choice)
        if solver.unknowns == "weights":
            rows = rows_of(channels, self.patch)
            weight = solve_on_rows(quadratic, teacher, rows, solver.damping)
        else:
            weight = self._scaled(quadratic, teacher, channels)
        return judged(quadratic, layer, weight, channels, all_filters(layer))

    def _scaled(self, quadratic: Quadratic, teacher: Tensor, channels: Tensor) -> Tensor:
        """The teacher's weight, every kept channel by its scale, [C_out, dim]."""
        found = contributions(quadratic, teacher, self.patch)
        scales = teacher.new_zeros(self.patch.in_channels)
        scales[channels] = channel_scales(found, channels, self.solver.damping)
        factors = scales.repeat_interleave(self.patch.group_size)  # [C_in s]
        return teacher * torch.cat([factors, factors.new_ones(int(self.patch.bias))])
