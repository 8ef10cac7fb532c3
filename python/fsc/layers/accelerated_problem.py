"""A layer behind its ReLU, by preconditioned conjugate gradients on the columns of its inputs."""

import torch
from torch import Tensor

import fsc_ext
from fsc import ranks
from fsc.layers.closed_form_problem import minimise
from fsc.layers.layer_problem import Plan, Pose, Shortcuts, Solution, from_matrix, to_matrix
from fsc.layers.moments import Moments
from fsc.solvers.accelerated import Accelerated, ReluProblem, conjugate_gradient_relu
from fsc.solvers.closed_form import ClosedForm, rows_of
from fsc.solvers.patch import Patch


class AcceleratedProblem:
    """Chooses as the closed form does, starts from its solution and goes on behind the ReLU.

    Args:
        pose: the layer and its objective.
        solver: selection, damping and steps.
    """

    def __init__(self, pose: Pose, solver: Accelerated) -> None:
        """Starts without inputs."""
        self.pose = pose
        self.solver = solver
        self.patch = Patch.of(pose.layer)
        self.moments = Moments(self.patch, pose.layer.weight.device)
        self.columns: list[list[Tensor]] = [[] for _ in pose.objective.terms]
        self.targets: list[list[Tensor]] = [[] for _ in pose.objective.terms]
        self.offsets: list[list[Tensor]] = [[] for _ in pose.objective.terms]

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up the inputs [N, C_in, H, W] and shortcuts [N, C_out, H', W'] of one batch."""
        self.moments.accumulate(input_teacher, input_student)
        weight = to_matrix(self.pose.layer).to(input_teacher.dtype)  # [C_out, dim]
        for number, term in enumerate(self.pose.objective.terms):
            mixed = fsc_ext.soft_cross_mix(input_teacher, input_student, term.alpha, term.beta)
            teacher, student = (self.patch.columns(side) for side in mixed)  # [dim, R] each
            root = term.weight**0.5
            self.columns[number].append(root * student)
            target = weight @ teacher  # [C_out, R]
            if shortcuts is not None:
                offsets = [side.transpose(0, 1).flatten(1) for side in shortcuts]  # [C_out, R] each
                target += offsets[0]
                self.offsets[number].append(root * offsets[1])
            self.targets[number].append(root * target.relu_())

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.moments.join_ranks()
        for terms in (self.columns, self.targets, self.offsets):
            terms[:] = [[ranks.side_by_side(torch.cat(own, 1), 1)] for own in terms if own]

    def solve(self, plan: Plan) -> Solution:
        """The least-squares solution under the plan, lowered behind the ReLU."""
        layer = self.pose.layer
        teacher = to_matrix(layer)
        linear = self.moments.quadratic(self.pose.objective, teacher)
        closed_form = ClosedForm(self.solver.selection, self.solver.damping)
        start, channels, filters = minimise(linear, teacher, self.patch, plan, closed_form)
        problem = self._problem()
        weight = conjugate_gradient_relu(
            problem,
            start.to(layer.weight.dtype),
            rows_of(channels, self.patch),
            steps=self.solver.steps,
            tolerance=self.solver.tolerance,
        )
        # A filter that went stays away: behind the ReLU it would come back to explain the target.
        weight *= (start != 0).any(1, keepdim=True)
        before = (teacher * (start != 0)).to(weight.dtype)
        errors = [problem.loss(w) for w in (before, weight, torch.zeros_like(weight))]
        return Solution(*from_matrix(weight, layer), channels, filters, *errors)

    def _problem(self) -> ReluProblem:
        columns, targets = _joined(self.columns), _joined(self.targets)  # [dim, R], [C_out, R]
        offsets = _joined(self.offsets) if self.pose.has_shortcuts else None  # [C_out, R]
        self.columns, self.targets, self.offsets = [], [], []
        return ReluProblem(columns, targets, offsets, self.moments.num_images)


def _joined(terms: list[list[Tensor]]) -> Tensor:
    return torch.cat([part for parts in terms for part in parts], 1)
