"""A layer by the iterations of the paper: a step of SGD or Adam, then the proximal operator."""

from collections.abc import Callable

import torch
from torch import Tensor

from fsc.methods.layer_problem import Plan, Pose, Solution, all_filters
from fsc.solvers.proximal import Proximal, adam_topk, layer_loss


class ProximalProblem:
    """The iterations on the layer's own inputs; they move the weight alone.

    Args:
        pose: the layer and its objective.
        solver: steps, learning rate, projection.
        on_step: called with the number of every step done.
    """

    def __init__(self, pose: Pose, solver: Proximal, on_step: Callable[[int], None] | None) -> None:
        """Starts without inputs."""
        self.pose = pose
        self.solver = solver
        self.on_step = on_step
        self.inputs: list[tuple[Tensor, Tensor]] = []

    def accumulate(self, input_teacher: Tensor, input_student: Tensor) -> None:
        """Keeps the inputs of one batch, [N, C_in, H, W] each."""
        self.inputs.append((input_teacher, input_student))

    def solve(self, plan: Plan) -> Solution:
        """Runs the steps; the weight starts at the teacher's, the bias stays the teacher's."""
        pose, layer = self.pose, self.pose.layer
        inputs = (torch.cat([t for t, _ in self.inputs]), torch.cat([s for _, s in self.inputs]))
        dead = torch.ones(layer.in_channels, dtype=torch.bool)
        dead[plan.channels] = False
        start = layer.weight.detach().clone()
        start[:, dead] = 0
        bias = None if layer.bias is None else layer.bias.detach().clone()

        def loss(weight: Tensor, student_bias: Tensor | None = bias) -> Tensor:
            return layer_loss(weight, inputs, layer, student_bias, pose.objective, pose.activation)

        def gradient(weight: Tensor) -> Tensor:
            with torch.enable_grad():
                leaf = weight.requires_grad_()
                # The released code's loss is a mean over the outputs, which Adam's epsilon sees.
                (grad,) = torch.autograd.grad(loss(leaf) / layer.out_channels, leaf)
            grad[:, dead] = 0
            return grad

        channels, filters, weight = self._project(plan, start, gradient)
        before = start * (weight != 0)
        if bias is not None and plan.num_filters is not None:
            gone = torch.ones(layer.out_channels, dtype=torch.bool)
            gone[filters] = False
            bias[gone] = 0
        zero_bias = None if bias is None else torch.zeros_like(bias)
        errors = [loss(before), loss(weight), loss(torch.zeros_like(weight), zero_bias)]
        return Solution(weight, bias, channels, filters, *(float(e) for e in errors))

    def _project(
        self, plan: Plan, start: Tensor, gradient: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Runs the steps under the plan: kept channels, kept filters, weight."""
        count: int = plan.num_channels or len(plan.channels)
        dim: int | None = 1
        if plan.num_filters is not None:
            count, dim = plan.num_filters, 0
        if plan.num_weights is not None:
            count, dim = plan.num_weights, None
        weight, mask = adam_topk(start, gradient, count, dim, self.solver, self.on_step)
        kept = mask.nonzero().flatten()
        return (
            kept if dim == 1 else plan.channels,
            kept if dim == 0 else all_filters(self.pose.layer),
            weight,
        )
