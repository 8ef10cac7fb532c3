"""Cross Distillation (Bai et al., AAAI 2020): layer by layer, inputs of both networks crossed."""

import copy
import math
from dataclasses import dataclass, field

from fsc import surgery
from fsc.methods.base import Outcome, Task
from fsc.methods.layer_problem import Activation, Axis, Settings
from fsc.methods.layer_solver import LayerSolver
from fsc.objectives import Objective, Soft
from fsc.solvers.closed_form import Selection
from fsc.solvers.proximal import HardSchedule
from fsc.walk import walk


@dataclass(frozen=True)
class CrossDistillation:
    """Structured pruning by cross distillation.

    Lifecycle:
        1. fold every BatchNorm into its convolution, in copies of the teacher;
        2. walk both networks side by side; at each convolution gather the inputs of both and
           solve the layer's objective, on fewer channels where the scheme says so and on all of
           them where it does not (Algorithm 1 runs over every layer);
        3. write the new weight and bias into the student and walk on with the corrected student;
        4. cut the dead channels out.

    Layers before the first pruned one have nothing to correct and keep the teacher's weight.

    Args:
        objective: Estimation ("Ours-NC"), Correction, Imitation, Convex ("Ours") or Soft
            ("Ours-S"; the default, with the paper's (0.9, 0.5) for ResNets).
        activation: "none" compares the layer's outputs before the activation, as the released
            code does: closed form on moments. "relu" compares them after the activation that
            follows the layer, as the paper writes it: Adam steps with a hard projection. A layer
            that feeds an addition is compared before it in both cases.
        axis: "input_channels" prunes what a layer reads, as the released code does;
            "output_filters" prunes what a producer writes, as Eq. 11 of the paper does.
        selection: "obs" or "norm", how the closed form chooses channels.
        damping: pull of the closed form towards the teacher's weight, in units of the mean
            curvature.
        schedule: the steps of the iterative solver (paper: 3000 a layer).

    Raises:
        ValueError: a choice is unknown or the damping is not positive and finite.
        TypeError: the objective is none.
    """

    objective: Objective = field(default_factory=Soft)
    activation: Activation = "none"
    axis: Axis = "input_channels"
    selection: Selection = "obs"
    damping: float = 0.1
    schedule: HardSchedule = field(default_factory=HardSchedule)

    def __post_init__(self) -> None:
        """Refuses unknown choices before any work is done."""
        _check_choice("activation", self.activation, ("none", "relu"))
        _check_choice("axis", self.axis, ("input_channels", "output_filters"))
        _check_choice("selection", self.selection, ("obs", "norm"))
        if not 0 < self.damping < math.inf:
            raise ValueError(f"damping must be finite and above 0, got {self.damping}")
        if not isinstance(self.objective, Objective):
            raise TypeError(
                f"objective must be one of fsc.objectives, e.g. Soft(), got {self.objective!r}"
            )

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        teacher = copy.deepcopy(task.teacher).eval()
        surgery.fold_batch_norm(teacher)
        student = copy.deepcopy(teacher)
        visitor = LayerSolver(self._settings(), task.scheme, teacher, task.progress)
        walk(
            teacher,
            student,
            task.images,
            visitor,
            batch_size=task.batch_size,
            memory_budget=task.memory_budget,
            progress=task.progress,
        )
        surgery.remove_channels(student, visitor.kept, task.images[:1])
        return Outcome(student.eval(), visitor.kept, visitor.reports)

    def _settings(self) -> Settings:
        return Settings(
            self.objective,
            self.activation,
            self.axis,
            self.selection,
            self.damping,
            self.schedule,
        )


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
