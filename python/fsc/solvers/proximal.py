"""The iterations of the released Cross Distillation code: Adam with a hard projection.

Adam acts on the weight alone; after every step only the groups of largest norm stay (no
shrinkage), their number falling linearly over the first third of the steps; gradients and Adam's
moments of the others are masked, and the learning rate drops tenfold when the ramp ends. The paper
itself writes soft thresholds (Eq. 10, 11); this is what its code runs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import fsc_ext
from fsc.objectives import Objective
from fsc.patch import Patch


@dataclass(frozen=True)
class Proximal:
    """Iterations of the released code: Adam with a hard projection.

    Args:
        steps: Adam steps per layer (3000 for CIFAR-10, 2000 for ImageNet).
        learning_rate: 1e-3 for ResNet-56, 5e-4 for VGG.
        ramp: share of the steps over which the kept count falls to its target.
        decay: factor on the learning rate once the ramp has ended.

    Raises:
        ValueError: a value is out of its range.
    """

    steps: int = 3000
    learning_rate: float = 1e-3
    ramp: float = 1 / 3
    decay: float = 0.1

    def __post_init__(self) -> None:
        """Refuses values that no loop can follow."""
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be finite and above 0, got {self.learning_rate}")
        if not 0 <= self.ramp <= 1:
            raise ValueError(f"ramp must be in [0, 1], got {self.ramp}")
        if not 0 < self.decay <= 1:
            raise ValueError(f"decay must be in (0, 1], got {self.decay}")

    def kept(self, step: int, total: int, count: int) -> int:
        """How many of `total` groups stay after `step` (from 1) on the way to `count`."""
        length = self.ramp * self.steps
        if step >= length:
            return count
        return total - int((total - count) * step / length)

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of `step` (from 1)."""
        ramping = step <= self.ramp * self.steps
        return self.learning_rate * (1.0 if ramping else self.decay)


def adam_topk(
    weight: Tensor,
    gradient: Callable[[Tensor], Tensor],
    count: int,
    dim: int | None,
    schedule: Proximal,
    on_step: Callable[[int], None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Adam steps, each followed by the projection on the largest groups.

    Args:
        weight: where to start, [C_out, C_in, kH, kW].
        gradient: maps a weight to the gradient of the layer objective there, of equal shape.
        count: how many slices along `dim`, or single weights, stay at the end.
        dim: 0 prunes output filters, 1 input channels, None single weights.
        schedule: steps, learning rate and ramp.
        on_step: called with the number of every step done.

    Returns:
        The weight, and the mask of what was kept, bool [shape[dim]] or of the weight's shape.
    """
    parameter = weight.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([parameter], lr=schedule.learning_rate)
    total = weight.numel() if dim is None else weight.shape[dim]
    shape = weight.shape if dim is None else [-1 if d == dim else 1 for d in range(weight.dim())]
    mask = torch.ones(total, dtype=torch.bool)
    for step in range(1, schedule.steps + 1):
        parameter.grad = gradient(parameter.detach()) * mask.view(shape)
        optimizer.param_groups[0]["lr"] = schedule.learning_rate_at(step)
        optimizer.step()
        kept = schedule.kept(step, total, count)
        with torch.no_grad():
            if dim is None:
                mask = fsc_ext.keep_topk_(parameter, kept)
            else:
                mask = fsc_ext.keep_topk_groups_(parameter, kept, dim)
        for moment in ("exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][moment] *= mask.view(shape)
        if on_step is not None:
            on_step(step)
    return parameter.detach(), mask


def layer_loss(
    weight: Tensor,
    inputs: tuple[Tensor, Tensor],
    teacher: torch.nn.Conv2d,
    bias: Tensor | None,
    objective: Objective,
    activation: str,
) -> Tensor:
    """The layer objective at a weight, on the layer's own inputs, by `cross_distill_layer`.

    Args:
        weight: the student's weight [C_out, C_in, kH, kW].
        inputs: the layer's input in the teacher and in the student, [N, C_in, H, W] each.
        teacher: the teacher's layer; its geometry is the student's too.
        bias: the student's bias [C_out], or None.
        objective: which inputs meet, and with which weights.
        activation: "relu" or "none".

    Returns:
        A scalar, differentiable in `weight`.
    """
    total = weight.new_zeros(())
    for term in objective.terms:
        total = total + term.weight * fsc_ext.cross_distill_layer(
            *inputs,
            teacher.weight,
            weight,
            teacher.bias,
            bias,
            alpha=term.alpha,
            beta=term.beta,
            activation=activation,
            stride=teacher.stride,
            padding=Patch.of(teacher).padding,
            dilation=teacher.dilation,
        )
    return total
