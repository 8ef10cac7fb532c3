"""A grouped or depthwise layer on moments: all of its groups in closed form at once."""

import torch
from torch import Tensor

import fsc_ext
from fsc.layers.drift import DriftMoments
from fsc.layers.grouped_moments import GroupedMoments
from fsc.layers.layer_problem import (
    Plan,
    Pose,
    Shortcuts,
    Solution,
    all_filters,
    from_matrix,
    to_matrix,
)
from fsc.solvers.blocks import BlockQuadratic, choose_weights
from fsc.solvers.closed_form import ClosedForm
from fsc.solvers.patch import Patch
from fsc.solvers.quantization import pass_errors_on


class GroupedProblem:
    """Chooses or rounds weights where a scheme says so; channels are chosen elsewhere.

    Args:
        pose: the layer and its objective, before the activation.
        solver: selection and damping.
    """

    def __init__(self, pose: Pose, solver: ClosedForm) -> None:
        """Starts from zero images."""
        self.pose = pose
        self.solver = solver
        self.patch = Patch.of_group(pose.layer)
        self.groups = pose.layer.groups
        self.moments = GroupedMoments(self.patch, self.groups, pose.layer.weight.device)
        self.drift = DriftMoments(pose.layer) if pose.has_shortcuts else None

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up the inputs of one batch, [N, C_in, H, W] each, and its shortcuts."""
        self.moments.accumulate(input_teacher, input_student)
        if self.drift is not None:
            assert shortcuts is not None
            self.drift.accumulate(input_teacher, input_student, shortcuts[0] - shortcuts[1])

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.moments.join_ranks()
        if self.drift is not None:
            self.drift.join_ranks()

    def solve(self, plan: Plan) -> Solution:
        """The minimiser under the plan."""
        assert plan.num_channels is None and plan.num_filters is None
        layer = self.pose.layer
        teacher = to_matrix(layer).unflatten(0, (self.groups, -1))  # [groups, rows, dim]
        quadratic = self.moments.quadratic(self.pose.objective, teacher)
        if self.drift is not None:
            quadratic = self.drift.added_to_blocks(quadratic, self.pose.objective, teacher)
        if plan.bits is not None:
            weight, before = self._rounded(quadratic, teacher, plan.bits)
        else:
            kept = self._kept(quadratic, teacher, plan)
            weight = quadratic.minimum_near(teacher, kept, self.solver.damping)
            before = teacher * (weight != 0)
        errors = [quadratic.loss(w) for w in (before, weight, torch.zeros_like(weight))]
        found = from_matrix(weight.flatten(0, 1), layer)
        return Solution(*found, plan.channels, all_filters(layer), *errors)

    def _kept(self, quadratic: BlockQuadratic, teacher: Tensor, plan: Plan) -> Tensor:
        """What may be used, bool [groups, rows or 1, dim]; a bias always may."""
        prunable = self.patch.dim - int(self.patch.bias)
        if plan.num_weights is not None:
            selection, damping = self.solver.selection, self.solver.damping
            return choose_weights(
                quadratic, teacher, prunable, plan.num_weights, selection, damping
            )
        if plan.weights is not None:
            mask = torch.ones_like(teacher, dtype=torch.bool)
            given = mask.new_zeros(self.pose.layer.weight.numel())
            given[plan.weights] = True
            mask[..., :prunable] = given.view(self.groups, -1, prunable)
            return mask
        stays = torch.zeros(self.pose.layer.in_channels, dtype=torch.bool, device=teacher.device)
        stays[plan.channels] = True
        rows = stays.view(self.groups, -1).repeat_interleave(self.patch.group_size, 1)
        return torch.cat([rows, rows.new_ones(self.groups, int(self.patch.bias))], 1)[:, None]

    def _rounded(
        self, quadratic: BlockQuadratic, teacher: Tensor, bits: int
    ) -> tuple[Tensor, Tensor]:
        """The quantized weight, and the teacher's, rounded."""
        size, damping = self.patch.dim - int(self.patch.bias), self.solver.damping
        before = teacher.clone()
        columns = teacher[..., :size]
        before[..., :size] = fsc_ext.quantize_weight(columns.flatten(0, 1), bits).view_as(columns)
        if self.solver.selection == "norm":
            return before, before
        every = teacher.new_ones(self.groups, 1, self.patch.dim, dtype=torch.bool)
        weight = quadratic.minimum_near(teacher, every, damping)
        return pass_errors_on(weight, quadratic.damped(damping), size, bits), before
