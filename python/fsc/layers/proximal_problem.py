"""A layer by the iterations of the paper: a step of SGD or Adam, then the proximal operator."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

import fsc_ext
from fsc import ranks
from fsc.layers.layer_problem import (
    Plan,
    Pose,
    Shortcuts,
    Solution,
    all_filters,
    joined,
    to_matrix,
)
from fsc.layers.moments import Moments
from fsc.layers.noisy_inputs import NoisyInputs
from fsc.solvers.patch import Patch
from fsc.solvers.proximal import Proximal, iterate


class ProximalProblem:
    """The iterations on moments, or on the layer's own inputs; they move the weight alone.

    Moments serve where nothing stands behind the layer, all images are taken at once, the inputs
    have more columns than rows and no noise; a step then costs the same for any number of images.

    Args:
        pose: the layer and its objective.
        solver: schedule, optimiser and projection.
        on_step: called with the number of steps done.
    """

    def __init__(self, pose: Pose, solver: Proximal, on_step: Callable[[int], None] | None) -> None:
        """Starts without inputs."""
        self.pose = pose
        self.solver = solver
        self.on_step = on_step
        patch = Patch.of(pose.layer)
        columns = pose.num_columns * len(pose.objective.terms)
        on_moments = pose.activation == "none" and not solver.batch_size and columns >= patch.dim
        self.inputs: _Sums | _Images | NoisyInputs
        if pose.noise:
            self.inputs = NoisyInputs(pose, solver.batch_size)
        else:
            self.inputs = _Sums(pose) if on_moments else _Images(pose, solver.batch_size)

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up the inputs [N, C_in, H, W] and shortcuts [N, C_out, H', W'] of one batch."""
        self.inputs.accumulate(input_teacher, input_student, shortcuts)

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        self.inputs.join_ranks()

    def solve(self, plan: Plan) -> Solution:
        """Runs the steps; the weight starts at the teacher's, the bias stays the teacher's."""
        layer = self.pose.layer
        dead = layer.weight.new_ones(layer.in_channels, dtype=torch.bool)
        dead[plan.channels] = False
        self.inputs.prepare(dead)
        weight = layer.weight.detach().clone(memory_format=torch.contiguous_format)
        weight[:, dead] = 0
        start = weight.clone()
        count, dim = _target(plan)
        mask = iterate(self.solver, weight, self.inputs.run, count, dim, self.on_step)
        kept = mask.nonzero().flatten()
        channels = kept if dim == 1 and count is not None else plan.channels
        filters = kept if dim == 0 else all_filters(layer)
        bias = None if layer.bias is None else layer.bias.detach().clone()
        if bias is not None and dim == 0:
            bias *= mask
        before = start * (weight != 0)
        errors = [self.inputs.loss(w, bias) for w in (before, weight)]
        zero_bias = None if bias is None else torch.zeros_like(bias)
        errors.append(self.inputs.loss(torch.zeros_like(weight), zero_bias))
        return Solution(weight, bias, channels, filters, *errors)


def _target(plan: Plan) -> tuple[int | None, int | None]:
    """How much stays, and along which dimension; single weights have none."""
    if plan.num_weights is not None:
        return plan.num_weights, None
    if plan.num_filters is not None:
        return plan.num_filters, 0
    return plan.num_channels, 1


class _Sums:
    """The layer's objective by its moments, in float64."""

    def __init__(self, pose: Pose) -> None:
        self.pose = pose
        self.moments = Moments(Patch.of(pose.layer), pose.layer.weight.device)

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        self.moments.accumulate(input_teacher, input_student)

    def join_ranks(self) -> None:
        self.moments.join_ranks()

    def prepare(self, dead: Tensor) -> None:
        """Fills the problem in; what dead channels would explain is not asked for."""
        layer = self.pose.layer
        teacher = to_matrix(layer)
        self.quadratic = self.moments.quadratic(self.pose.objective, teacher)
        columns = layer.weight[0].numel()
        hessian, target = self.quadratic.hessian, self.quadratic.target
        self.hessian = hessian[:columns, :columns].clone()
        self.target = target[:, :columns].clone()
        if layer.bias is not None:
            # The bias stays as it is, so its share of the output leaves the target.
            self.target -= teacher[:, columns:] * hessian[columns, :columns]
        gone = dead.repeat_interleave(columns // layer.in_channels)
        self.hessian[gone] = 0
        self.hessian[:, gone] = 0
        self.target[:, gone] = 0
        self.hessian = self.hessian.to(layer.weight.dtype)
        self.target = self.target.to(layer.weight.dtype)

    def run(self, weight: Tensor, rates: Tensor, amounts: Tensor, **settings: Any) -> Tensor:
        # The released code's loss is a mean over the outputs: the learning rate of gradient descent
        # and Adam's epsilon go with it.
        scale = 1 / (self.pose.num_columns * self.pose.layer.out_channels)
        return fsc_ext.solve_quadratic_(
            weight, self.hessian, self.target, rates, amounts, scale=scale, **settings
        )

    def loss(self, weight: Tensor, bias: Tensor | None) -> float:
        return self.quadratic.loss(joined(weight, bias))


class _Images:
    """The layer's objective on its cached inputs and the targets that go with them."""

    def __init__(self, pose: Pose, batch_size: int) -> None:
        self.pose = pose
        # An image comes once for each term.
        self.batch_size = batch_size * len(pose.objective.terms)
        self.parts: list[list[Tensor]] = []

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up mixed inputs and activated targets, the terms of one image side by side."""
        own_teacher, own_student = shortcuts or (None, None)
        parts = []
        for term in self.pose.objective.terms:
            mixed_teacher, mixed_student = fsc_ext.soft_cross_mix(
                input_teacher, input_student, term.alpha, term.beta
            )
            layer = self.pose.layer
            target = self._output(mixed_teacher, layer.weight, layer.bias, own_teacher)
            parts.append([mixed_student, target, *([] if own_student is None else [own_student])])
        self.parts.append([torch.stack(part, 1).flatten(0, 1) for part in zip(*parts, strict=True)])

    def join_ranks(self) -> None:
        joined = (torch.cat(part) for part in zip(*self.parts, strict=True))
        self.parts = [[ranks.side_by_side(part, 0) for part in joined]]

    def prepare(self, dead: Tensor) -> None:
        """Joins the batches; dead channels see nothing."""
        self.input, self.target, *rest = (torch.cat(part) for part in zip(*self.parts, strict=True))
        self.shortcut = rest[0] if rest else None
        self.parts = []
        self.input[:, dead] = 0
        terms = self.pose.objective.terms
        shares = self.input.new_tensor([term.weight for term in terms])  # [terms]
        # The loop takes the mean over images, terms counted as images of their own.
        self.image_weight = (shares * len(terms)).repeat(len(self.input) // len(terms))

    def run(self, weight: Tensor, rates: Tensor, amounts: Tensor, **settings: Any) -> Tensor:
        layer = self.pose.layer
        return fsc_ext.solve_relu_(
            weight,
            self.input,
            self.target,
            rates,
            amounts,
            bias=layer.bias,
            shortcut=self.shortcut,
            image_weight=self.image_weight,
            scale=1 / self.target[0].numel(),
            activation=self.pose.activation,
            batch_size=self.batch_size,
            **self._geometry(),
            **settings,
        )

    def loss(self, weight: Tensor, bias: Tensor | None) -> float:
        error = (self._output(self.input, weight, bias, self.shortcut) - self.target).flatten(1)
        return float((error.double().square().sum(1) * self.image_weight).mean())

    def _output(
        self, images: Tensor, weight: Tensor, bias: Tensor | None, shortcut: Tensor | None
    ) -> Tensor:
        # In the loop's layout: where the student sees what the teacher sees, their difference is
        # then exactly zero, and Adam does not follow rounding.
        by_pixels = images.contiguous(memory_format=torch.channels_last)
        output = torch.nn.functional.conv2d(by_pixels, weight, bias, **self._geometry())
        if shortcut is not None:
            output += shortcut
        return output.relu_() if self.pose.activation == "relu" else output

    def _geometry(self) -> dict[str, Any]:
        patch = Patch.of(self.pose.layer)
        return {"stride": patch.stride, "padding": patch.padding, "dilation": patch.dilation}
