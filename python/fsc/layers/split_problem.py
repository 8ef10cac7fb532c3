"""A grouped layer as one problem a group, for solvers that know no groups."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from fsc.layers.layer_problem import (
    LayerProblem,
    Plan,
    Pose,
    Shortcuts,
    Solution,
    all_channels,
    all_filters,
)


class SplitProblem:
    """Every group is a layer of its own; of single weights each keeps as many as its largest are.

    Args:
        pose: the layer and its objective.
        problem_of: makes the problem of one group.
        on_step: called with the number of steps done, as if groups shared them.
        steps: of one group.
    """

    def __init__(
        self,
        pose: Pose,
        problem_of: Callable[[Pose], LayerProblem],
        on_step: Callable[[int], None] | None = None,
        steps: int = 0,
    ) -> None:
        """Poses every group."""
        self.pose = pose
        self.on_step, self.steps = on_step, steps
        self.layers = [_group(pose.layer, group) for group in range(pose.layer.groups)]
        self.problems = [problem_of(replace(pose, layer=layer)) for layer in self.layers]

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up the inputs [N, C_in, H, W] and shortcuts [N, C_out, H', W'] of one batch."""
        count = len(self.problems)
        sides = [side.chunk(count, 1) for side in (input_teacher, input_student)]
        added = (
            [None] * count
            if shortcuts is None
            else list(zip(*(side.chunk(count, 1) for side in shortcuts), strict=True))
        )
        for problem, teacher, student, own in zip(self.problems, *sides, added, strict=True):
            problem.accumulate(teacher, student, own)

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        for problem in self.problems:
            problem.join_ranks()

    def solve(self, plan: Plan) -> Solution:
        """The solutions of all groups, joined."""
        assert plan.num_channels is None and plan.num_filters is None and plan.weights is None
        found = []
        for number, (problem, own) in enumerate(zip(self.problems, self._plans(plan), strict=True)):
            found.append(problem.solve(own))
            if self.on_step is not None:
                self.on_step(self.steps * (number + 1) // len(self.problems))
        biases = [each.bias for each in found if each.bias is not None]
        return Solution(
            torch.cat([each.weight for each in found]),
            torch.cat(biases) if biases else None,
            plan.channels,
            all_filters(self.pose.layer),
            sum(each.error_before for each in found),
            sum(each.error for each in found),
            sum(each.error_of_zero for each in found),
        )

    def _plans(self, plan: Plan) -> list[Plan]:
        size = self.layers[0].in_channels
        counts: list[int | None] = [None] * len(self.layers)
        if plan.num_weights is not None:
            sizes = self.pose.layer.weight.detach().abs().flatten()
            largest = sizes.argsort(descending=True, stable=True)[: plan.num_weights]
            owners = largest // self.layers[0].weight.numel()
            counts = torch.bincount(owners, minlength=len(self.layers)).tolist()
        plans = []
        for group, (layer, count) in enumerate(zip(self.layers, counts, strict=True)):
            inside = (plan.channels >= group * size) & (plan.channels < (group + 1) * size)
            channels = plan.channels[inside] - group * size
            if count == 0:  # nothing of it stays
                channels, count = all_channels(layer)[:0], None
            plans.append(Plan(channels, num_weights=count, bits=plan.bits))
        return plans


def _group(layer: nn.Conv2d, group: int) -> nn.Conv2d:
    """One group of a convolution as a convolution, on the same weights."""
    rows = layer.out_channels // layer.groups
    own = slice(group * rows, (group + 1) * rows)
    part = nn.Conv2d(
        layer.in_channels // layer.groups,
        rows,
        layer.kernel_size,  # type: ignore[arg-type]
        layer.stride,  # type: ignore[arg-type]
        layer.padding,  # type: ignore[arg-type]
        layer.dilation,  # type: ignore[arg-type]
        device="meta",
    )
    part.weight = nn.Parameter(layer.weight.detach()[own], requires_grad=False)
    bias = layer.bias
    part.bias = None if bias is None else nn.Parameter(bias.detach()[own], requires_grad=False)
    return part
