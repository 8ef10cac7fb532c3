"""A layer whose weights have few values, on moments: in closed form or by steps."""

from collections.abc import Callable

import torch
from torch import Tensor

import fsc_ext
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
from fsc.solvers.closed_form import ClosedForm
from fsc.solvers.patch import Patch
from fsc.solvers.proximal import Proximal
from fsc.solvers.quantization import quantize_by_steps, quantize_closed_form


class QuantizedProblem:
    """Rounds column by column, or steps with quantized weights.

    Args:
        pose: the layer and its objective, before the activation.
        solver: selection and damping, or the schedule of the steps.
        on_step: called with the number of steps done.
    """

    def __init__(
        self, pose: Pose, solver: ClosedForm | Proximal, on_step: Callable[[int], None] | None
    ) -> None:
        """Chooses between Gram matrices and columns, whichever is cheaper."""
        self.pose = pose
        self.solver = solver
        self.on_step = on_step
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
        """The quantized weight; the bias keeps its precision and, in closed form, adapts."""
        assert plan.bits is not None
        layer, solver = self.pose.layer, self.solver
        teacher = to_matrix(layer)  # [C_out, dim]
        size = self.patch.dim - int(self.patch.bias)
        quadratic = self.statistics.quadratic(teacher)
        if isinstance(solver, Proximal):
            weight = quantize_by_steps(solver, quadratic, teacher, size, plan.bits, self.on_step)
        else:
            weight = quantize_closed_form(
                quadratic, teacher, size, plan.bits, solver.selection, solver.damping
            )
        before = teacher.clone()
        before[:, :size] = fsc_ext.quantize_weight(teacher[:, :size], plan.bits)
        errors = [quadratic.loss(w) for w in (before, weight, torch.zeros_like(weight))]
        channels, filters = plan.channels, all_filters(layer)
        return Solution(*from_matrix(weight, layer), channels, filters, *errors)
