"""A layer's inputs with noise that every step draws anew, so that no stored target can serve."""

from typing import Any

import torch
from torch import Tensor

import fsc_ext
from fsc import ranks
from fsc.layers.layer_problem import Pose, Shortcuts
from fsc.solvers.patch import Patch


class NoisyInputs:
    """The layer's objective on cached inputs of both networks, the student's with noise.

    Gaussian noise of a share of the largest feature of each image (Bai et al., AAAI 2020, Table 14,
    "Gauss."): where the inputs cross, the teacher's target changes with it. A step is the loss of
    `fsc_ext.cross_distill_layer`, its gradient, and the optimiser's step with what follows it.

    Args:
        pose: the layer, its objective, and the noise; nothing is added behind the layer.
        batch_size: images a step takes, in turn; 0 takes all of them.
    """

    def __init__(self, pose: Pose, batch_size: int) -> None:
        """Starts without inputs."""
        assert not pose.has_shortcuts
        self.pose = pose
        self.batch_size = batch_size
        self.parts: list[tuple[Tensor, Tensor]] = []

    def accumulate(
        self, input_teacher: Tensor, input_student: Tensor, shortcuts: Shortcuts | None
    ) -> None:
        """Takes up the inputs [N, C_in, H, W] of one batch."""
        self.parts.append((input_teacher, input_student))

    def join_ranks(self) -> None:
        """Takes up what the other ranks have."""
        joined = (ranks.side_by_side(torch.cat(part), 0) for part in zip(*self.parts, strict=True))
        teacher, student = joined
        self.parts = [(teacher, student)]

    def prepare(self, dead: Tensor) -> None:
        """Joins the batches; the weights that would see dead channels, [C_in], stay as they are."""
        self.teacher, self.student = (torch.cat(part) for part in zip(*self.parts, strict=True))
        self.parts = []
        self.largest = self.student.amax((1, 2, 3), keepdim=True)  # [N, 1, 1, 1]
        self.alive = (~dead)[:, None, None]  # [C_in, 1, 1]
        # Drawn on the CPU, as all that is drawn: the same numbers on every device.
        self.generator = torch.Generator().manual_seed(self.pose.seed)
        count = len(self.student)
        self.starts = range(0, count, min(self.batch_size or count, count))

    def run(
        self,
        weight: Tensor,
        rates: Tensor,
        amounts: Tensor,
        *,
        first_step: int,
        state: list[Tensor],
        optimizer: str,
        momentum: float,
        **penalty: Any,
    ) -> None:
        """Steps as `fsc_ext.solve_relu_` takes them, on other noise each."""
        for index, (rate, amount) in enumerate(zip(rates.tolist(), amounts.tolist(), strict=True)):
            step = first_step + index
            gradient = self._gradient(weight, step)
            common: dict[str, Any] = {"lr": rate, "amount": amount, **penalty}
            if optimizer == "adam":
                fsc_ext.adam_prox_(weight, gradient, state[0], state[1], step, **common)
            else:
                buffer = state[0] if state else None
                fsc_ext.sgd_prox_(weight, gradient, buffer, momentum=momentum, **common)

    def loss(self, weight: Tensor, bias: Tensor | None) -> float:
        """The objective of an image, without noise."""
        # Dead channels carry nothing into the student's layer.
        return float(self._loss(self.teacher, self.student, weight * self.alive, bias))

    def _gradient(self, weight: Tensor, step: int) -> Tensor:
        """That of one step's loss, [C_out, C_in, kH, kW], the mean over its outputs."""
        start = self.starts[(step - 1) % len(self.starts)]
        piece = slice(start, start + self.starts.step)
        teacher, clean = self.teacher[piece], self.student[piece]
        noise = torch.empty(clean.shape, dtype=clean.dtype, device="cpu")
        noise = noise.normal_(generator=self.generator).to(clean.device)
        noisy = torch.addcmul(clean, noise, self.largest[piece], value=self.pose.noise)
        with torch.enable_grad():
            leaf = weight.detach().requires_grad_()
            loss = self._loss(teacher, noisy, leaf, self.pose.layer.bias)
            (gradient,) = torch.autograd.grad(loss, leaf)
        return gradient.mul_(self.alive / self._outputs(weight))

    def _loss(
        self, teacher: Tensor, student: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        """The objective's terms, summed over the outputs of an image."""
        layer, patch = self.pose.layer, Patch.of(self.pose.layer)
        loss = weight.new_zeros(())
        for term in self.pose.objective.terms:
            loss = loss + term.weight * fsc_ext.cross_distill_layer(
                teacher,
                student,
                layer.weight.detach(),
                weight,
                None if layer.bias is None else layer.bias.detach(),
                None if bias is None else bias.detach(),
                alpha=term.alpha,
                beta=term.beta,
                activation=self.pose.activation,
                stride=patch.stride,
                padding=patch.padding,
                dilation=patch.dilation,
            )
        return loss

    def _outputs(self, weight: Tensor) -> float:
        """Outputs of one image, over which the released code takes the mean."""
        return self.pose.num_columns / len(self.student) * len(weight)
