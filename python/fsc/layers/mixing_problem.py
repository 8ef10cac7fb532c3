"""A layer that takes what is gone from what stays: the teacher's channels mixed into its weight."""

import torch
from torch import Tensor

import fsc_ext
from fsc import ranks
from fsc.layers.closed_form_problem import judged
from fsc.layers.layer_problem import Plan, Pose, Shortcuts, Solution, all_filters, to_matrix
from fsc.layers.moments import ACCUMULATOR, layer_statistics
from fsc.solvers.mixing import Mixing, channel_mixing
from fsc.solvers.patch import Patch


class MixingProblem:
    """W' = W B with the same B at every tap; the bias stays the teacher's.

    Args:
        pose: the layer and the objective that its solution is judged by; B has one of its own.
        solver: the ridge.
    """

    def __init__(self, pose: Pose, solver: Mixing) -> None:
        """Starts from zero images."""
        self.pose = pose
        self.solver = solver
        self.patch = Patch.of(pose.layer)
        weight, count = pose.layer.weight, self.patch.in_channels
        terms = len(pose.objective.terms)
        self.statistics = layer_statistics(self.patch, pose.num_columns, terms, weight.device)
        # Of the teacher's channels, pixel by pixel, whatever the kernel.
        self.gram = weight.detach().new_zeros(count, count, dtype=ACCUMULATOR)

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up the inputs of one batch, [N, C_in, H, W] each; shortcuts do not count here."""
        self.statistics.accumulate(input_teacher, input_student)
        fsc_ext.gram_accumulate_(self.gram, None, None, input_teacher, None)

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.statistics.join_ranks()
        ranks.add_up(self.gram)

    def solve(self, plan: Plan) -> Solution:
        """The mixed weight on the channels that stay."""
        assert plan.num_channels is None and plan.num_filters is None and plan.weights is None
        layer, kept = self.pose.layer, plan.channels
        teacher = to_matrix(layer)  # [C_out, dim]
        size = self.patch.in_channels * self.patch.group_size
        taps = teacher[:, :size].unflatten(1, (self.patch.in_channels, -1))  # [C_out, C_in, s]
        mixing = channel_mixing(self.gram, kept, self.solver.ridge)  # B [C_in, kept]
        mixed = torch.zeros_like(taps)
        mixed[:, kept] = torch.einsum("ocs,ck->oks", taps, mixing)
        weight = torch.cat([mixed.flatten(1), teacher[:, size:]], 1)
        quadratic = self.statistics.quadratic(self.pose.objective, teacher)
        return judged(quadratic, layer, weight, kept, all_filters(layer))
