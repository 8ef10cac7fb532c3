"""Which problem a layer is, by its objective, its solver and its groups."""

from collections.abc import Callable

from fsc.layers.accelerated_problem import AcceleratedProblem
from fsc.layers.closed_form_problem import ClosedFormProblem
from fsc.layers.grouped_problem import GroupedProblem
from fsc.layers.layer_problem import AnySolver, LayerProblem, Pose
from fsc.layers.mixing_problem import MixingProblem
from fsc.layers.proximal_problem import ProximalProblem
from fsc.layers.quantized_problem import QuantizedProblem
from fsc.layers.reconstruction_problem import ReconstructionProblem
from fsc.layers.split_problem import SplitProblem
from fsc.solvers.accelerated import Accelerated
from fsc.solvers.closed_form import ClosedForm
from fsc.solvers.mixing import Mixing
from fsc.solvers.proximal import Proximal
from fsc.solvers.reconstruction import Reconstruction


def problem_of(
    pose: Pose, solver: AnySolver, bits: int | None, on_step: Callable[[int], None] | None = None
) -> LayerProblem:
    """The problem that a layer is.

    Args:
        pose: the layer and its objective.
        solver: one that goes with the activation of the pose, or `Accelerated` before any.
        bits: of a weight, where the layer is quantized, else None.
        on_step: called with the number of steps done, where the solver takes steps.
    """
    by_steps = isinstance(solver, Proximal) or (
        isinstance(solver, Accelerated) and pose.activation == "relu"
    )
    for_channels = isinstance(solver, Reconstruction | Mixing)
    if pose.layer.groups > 1 and (by_steps or for_channels):
        steps = solver.steps if isinstance(solver, Proximal) else 0
        return SplitProblem(pose, lambda own: problem_of(own, solver, bits), on_step, steps)
    if isinstance(solver, Reconstruction):
        return ReconstructionProblem(pose, solver)
    if isinstance(solver, Mixing):
        return MixingProblem(pose, solver)
    if bits is not None and pose.layer.groups == 1:
        assert not isinstance(solver, Accelerated)
        return QuantizedProblem(pose, solver, on_step)
    if isinstance(solver, Proximal):
        return ProximalProblem(pose, solver, on_step)
    if isinstance(solver, Accelerated) and by_steps:
        return AcceleratedProblem(pose, solver)
    closed_form = ClosedForm(solver.selection, solver.damping)
    if pose.layer.groups > 1:
        return GroupedProblem(pose, closed_form)
    return ClosedFormProblem(pose, closed_form)
