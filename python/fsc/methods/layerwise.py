"""What the methods that solve layer by layer do around the walk: fold, mask, walk and cut."""

import copy
from collections.abc import Collection, Mapping
from typing import Literal

from torch import nn

from fsc import ranks
from fsc.channels.cutting import cut_channels, mask_channels
from fsc.layers.objectives import Estimation
from fsc.methods.base import Outcome, Task
from fsc.methods.layer_solver import LayerSolver, Settings
from fsc.methods.plans import ChannelPlans
from fsc.networks import surgery
from fsc.networks.quantized_inputs import quantize_inputs
from fsc.schemes import QuantizedScheme
from fsc.schemes.quantized import FULL_PRECISION
from fsc.solvers.mixing import Mixing
from fsc.solvers.reconstruction import Reconstruction
from fsc.walking.input_limits import input_limits
from fsc.walking.walk import walk


def solve_layers(task: Task, settings: Settings) -> Outcome:
    """A copy of the task's teacher, its layers solved one after another as the settings say.

    Raises:
        ValueError: the scheme does not fit the teacher, or none of its layers can be solved.
    """
    teacher = copy.deepcopy(task.teacher).eval()
    surgery.fold_batch_norm(teacher)
    visitor = LayerSolver(settings, task, teacher)
    student = copy.deepcopy(teacher)
    if isinstance(visitor.plans, ChannelPlans):
        mask_channels(student, task.groups, visitor.plans.masked)
    if isinstance(task.scheme, QuantizedScheme):
        _quantize_activations(student, task.scheme, task, visitor.held_back)
    walk(
        teacher,
        student,
        ranks.share(task.images),
        visitor,
        batch_size=task.batch_size,
        memory_budget=task.memory_budget,
        progress=task.progress,
    )
    cut_channels(student, task.groups, visitor.plans.kept)
    return Outcome(
        student.eval(),
        visitor.plans.kept,
        visitor.reports,
        held_back=visitor.held_back,
        warnings=_left_whole(visitor.held_back, len(visitor.plans.choosing)),
    )


def fit_readers(
    task: Task, solver: Reconstruction | Mixing, axis: Literal["input_channels"] | None
) -> Outcome:
    """As `solve_layers`, but only layers that lose inputs are solved, and nothing follows them.

    Args:
        task: whose scheme removes channels.
        solver: of one layer.
        axis: whether a layer that alone reads channels chooses among them, or None.

    Raises:
        ValueError: the scheme removes no channels, or does not fit the teacher.
    """
    task.channels_left()
    settings = Settings(
        objective=Estimation(),
        solver=solver,
        activation="none",
        axis=axis,
        recalibrate=False,
        seed=task.seed,
        follows=False,
    )
    return solve_layers(task, settings)


def _left_whole(held_back: Mapping[str, str], total: int) -> list[str]:
    if not held_back:
        return []
    reasons = "; ".join(held_back.values())
    return [f"scheme changes {total} layers, {len(held_back)} of which stay whole: {reasons}"]


def _quantize_activations(
    student: nn.Module, scheme: QuantizedScheme, task: Task, held_back: Collection[str]
) -> None:
    """Makes the student, still the folded teacher, read few values where the scheme says so."""
    bits = scheme.activation_bits
    if bits < FULL_PRECISION:
        names = [name for name in scheme.bits if name not in held_back]
        limits = ranks.first(
            lambda: input_limits(student, task.images, names, bits, task.batch_size)
        )
        quantize_inputs(student, limits, bits)
