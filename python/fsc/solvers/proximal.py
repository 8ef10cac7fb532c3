"""The iterations of Cross Distillation: a step of an optimiser, then the proximal operator.

The paper (Bai et al., AAAI 2020, Algorithm 1) shrinks by soft thresholds (Eq. 10, 11); its released
code projects on the largest groups without shrinking, masks what went for good, and lets the
learning rate drop tenfold when the ramp ends. Both run natively, without a return to Python.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

import fsc_ext
from fsc.arguments import check_fields

# Steps between two looks at the keyboard and the progress line.
_PIECE = 100


@dataclass(frozen=True)
class Proximal:
    """The iterations of the paper or of its released code.

    Args:
        steps: per layer (3000 for CIFAR-10, 2000 for ImageNet).
        learning_rate: 1e-3 for ResNet-56, 5e-4 for VGG.
        ramp: share of the steps over which the kept count falls linearly to its target.
        decay: factor on the learning rate once the ramp has ended.
        projection: "hard" keeps the largest groups as they are and masks the others for good, as
            the released code does. "soft" is Eq. 10 and 11: the threshold of each step is the
            largest norm that has to go.
        optimizer: "adam" or "sgd".
        momentum: of "sgd".
        batch_size: images a step takes, in turn; 0 takes all of them.

    Raises:
        ValueError: a value is out of its range.
    """

    steps: int = 3000
    learning_rate: float = 1e-3
    ramp: float = 1 / 3
    decay: float = 0.1
    projection: Literal["hard", "soft"] = "hard"
    optimizer: Literal["adam", "sgd"] = "adam"
    momentum: float = 0.0
    batch_size: int = 0

    def __post_init__(self) -> None:
        """Refuses values that no loop can follow."""
        check_fields(self)
        rules = {
            "steps must be at least 1": (self.steps >= 1, self.steps),
            "learning_rate must be finite and above 0": (
                0 < self.learning_rate < math.inf,
                self.learning_rate,
            ),
            "ramp must be in [0, 1]": (0 <= self.ramp <= 1, self.ramp),
            "decay must be in (0, 1]": (0 < self.decay <= 1, self.decay),
            "projection must be hard or soft": (
                self.projection in ("hard", "soft"),
                repr(self.projection),
            ),
            "optimizer must be adam or sgd": (
                self.optimizer in ("adam", "sgd"),
                repr(self.optimizer),
            ),
            "momentum must be in [0, 1)": (0 <= self.momentum < 1, self.momentum),
            "batch_size must be at least 0": (self.batch_size >= 0, self.batch_size),
        }
        for rule, (holds, value) in rules.items():
            if not holds:
                raise ValueError(f"{rule}, got {value}")

    def kept(self, total: int, count: int) -> Tensor:
        """How many of `total` groups stay after each step on the way to `count`, [steps]."""
        length = max(1.0, self.ramp * self.steps)
        step = torch.arange(1, self.steps + 1, dtype=torch.float64, device="cpu")
        share = step / length
        return total - ((total - count) * share.clamp(max=1)).floor()

    def learning_rates(self) -> Tensor:
        """The learning rate of each step, [steps]."""
        shape = (self.steps,)
        rates = torch.full(shape, self.learning_rate, dtype=torch.float64, device="cpu")
        rates[int(self.ramp * self.steps) :] *= self.decay
        return rates

    def penalty(self, dim: int | None) -> str:
        """Its name in `fsc_ext.adam_prox_`."""
        name = "topk" if self.projection == "hard" else "soft_topk"
        return name if dim is None else f"{name}_groups"


def iterate(
    solver: Proximal,
    weight: Tensor,
    run: Callable[..., object],
    count: int | None,
    dim: int | None,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Runs the steps, changing the weight, and finds what stays.

    Args:
        solver: the schedule.
        weight: where to start, [C_out, C_in, kH, kW], contiguous.
        run: `fsc_ext.solve_quadratic_` or `fsc_ext.solve_relu_` with the problem filled in, or
            steps as they take them.
        count: how many slices along `dim`, or single weights, stay; None: all of them.
        dim: 0 prunes output filters, 1 input channels, None single weights.
        on_step: called with the number of steps done, now and then.

    Returns:
        What was kept, bool [shape[dim]] or of the weight's shape.
    """
    total = weight.numel() if dim is None else weight.shape[dim]
    kept = total if count is None else count
    penalty = "none" if count is None else solver.penalty(dim)
    num_states = 2 if solver.optimizer == "adam" else int(solver.momentum != 0)
    carried: dict[str, Any] = {
        "state": [torch.zeros_like(weight) for _ in range(num_states)],
        "mask": torch.ones_like(weight, dtype=torch.bool) if penalty.startswith("topk") else None,
        "optimizer": solver.optimizer,
        "momentum": solver.momentum,
        "penalty": penalty,
        "dim": 0 if dim is None else dim,
    }
    rates, amounts = solver.learning_rates(), solver.kept(total, kept)
    for begin in range(0, solver.steps, _PIECE):
        piece = slice(begin, min(begin + _PIECE, solver.steps))
        run(weight, rates[piece], amounts[piece], first_step=begin + 1, **carried)
        if on_step is not None:
            on_step(piece.stop)
    if dim is None:
        return fsc_ext.keep_topk_(weight, kept)
    return fsc_ext.keep_topk_groups_(weight, kept, dim)
