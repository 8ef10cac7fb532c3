"""The visitor of cross distillation: solves one layer after another on the walk."""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fsc import ranks
from fsc.layers.form import Form
from fsc.layers.layer_problem import (
    Activation,
    AnySolver,
    Axis,
    LayerProblem,
    Plan,
    Pose,
    Solution,
    selection_of,
)
from fsc.layers.objectives import Estimation, Objective
from fsc.layers.posing import problem_of
from fsc.methods.base import LayerReport, Progress, Task
from fsc.methods.noise import Noise
from fsc.methods.plans import ChannelPlans, Support, plans_of
from fsc.methods.recalibration import (
    ChannelStatistics,
    is_flat,
    recalibrate,
    renormalise,
    running_norms,
)
from fsc.methods.sums import Sums
from fsc.networks.operations import LAYER_OR_NORM
from fsc.networks.quantized_inputs import QuantizedInputConv2d
from fsc.networks.tracing import layer_names, shared_layers, trace
from fsc.schemes.reasons import commonest
from fsc.solvers.patch import Patch
from fsc.solvers.proximal import Proximal
from fsc.walking.visitor import Layer, Visitor
from fsc.wording import shown

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of `CrossDistillation`, the solver chosen; its baselines have others.

    Attributes:
        axis: None where all channels are chosen before the walk, by the L1 norm.
        follows: whether layers are solved that lose nothing, where their inputs have drifted.
    """

    objective: Objective
    solver: AnySolver
    activation: Activation
    axis: Axis | None
    recalibrate: bool
    after_addition: bool = False
    crossing: frozenset[str] | None = None
    noise: float = 0.0
    seed: int = 0
    support: Support | None = None
    follows: bool = True


class LayerSolver(Visitor):
    """Solves every layer whose input has drifted or that takes part in the scheme.

    A Linear that sees one column an image, as a head does, has too few of them to follow a drift;
    it is solved only where it lost inputs. A BatchNorm that was not folded has its statistics taken
    anew.

    Args:
        settings: hyper-parameters.
        task: scheme, images, groups of channels, progress and journal.
        teacher: the folded teacher, for the network's structure.

    Raises:
        ValueError: the scheme does not fit the teacher, or none of its layers can be solved.
    """

    kind = LAYER_OR_NORM

    def __init__(
        self,
        settings: Settings,
        task: Task,
        teacher: nn.Module,
    ) -> None:
        """Plans what every layer may keep."""
        self.settings = settings
        self.progress = task.progress
        self.journal = task.journal
        self._num_images = len(task.images)  # of all ranks
        self.reports: list[LayerReport] = []
        graph = trace(teacher)
        self._solvable = set(layer_names(teacher, graph))
        self._norms = running_norms(teacher)
        selection = selection_of(settings.solver)
        self.plans = plans_of(
            task, settings.axis, settings.support, selection, teacher, self._solvable
        )
        # Who reads fewer channels and cannot be solved for keeps its other weights.
        by_channels = isinstance(self.plans, ChannelPlans)
        self.held_back = {} if by_channels else self._held_back(graph, teacher)
        self._drifted = False
        self._noise = Noise(settings.noise, len(task.images))
        self._draws_anew = False  # whether the steps of a layer draw the noise themselves
        _check_names("crossing", settings.crossing or (), self._solvable)
        self._form: Form | None = None
        self._problem: LayerProblem | None = None
        self._known: Solution | None = None
        self._sums = Sums(settings.activation, after_addition=settings.after_addition)
        self._statistics: ChannelStatistics | None = None
        self._columns = 0

    def wants(self, name: str) -> bool:
        """Whether the layer has anything to solve for."""
        if isinstance(self.plans, ChannelPlans) and name in self.plans.readers:
            # Whether it can be solved for or not, it goes on with less than the teacher has.
            self._drifted = True
        if name in self._norms:
            return self._drifted and self.settings.recalibrate
        follows = self._drifted and self.settings.follows
        return name in self.plans.choosing or (follows and name in self._solvable)

    def on_shortcuts(self, layer: Layer, teacher: Tensor, student: Tensor) -> None:
        """Keeps what both layers are added to, where they are compared behind the addition."""
        self._sums.see(layer, teacher, student)

    def on_inputs(self, layer: Layer, input_teacher: Tensor, input_student: Tensor) -> None:
        """Gathers what the layer's solver needs of one batch."""
        if layer.name in self._norms:
            self._take_statistics(layer, input_teacher, input_student)
            return
        if is_flat(layer, input_teacher) and layer.name not in self.plans.choosing:
            return
        if isinstance(layer.student, QuantizedInputConv2d):
            input_student = layer.student.quantized(input_student)
        if self._form is None:
            self._begin(layer, input_teacher)
        if self._known is None:
            self._accumulate(input_teacher, input_student)

    def before_run(self, layer: Layer) -> None:
        """Solves the layer and writes its weight into the student."""
        if layer.name in self._norms and self._statistics is not None:
            renormalise(layer.student, self._statistics)
            self._statistics = None
        if self._form is None:
            return
        start = time.perf_counter()
        solution = self._known
        if solution is None:
            solution = self._solve(layer.name, self._form)
            if self.journal is not None:
                self.journal.add(layer.name, solution)
        _write(layer.student, self._form, solution)
        self._form = self._problem = None
        self._sums.end_inputs()
        self._remember(layer.name, solution, time.perf_counter() - start)

    def on_outputs(self, layer: Layer, output_teacher: Tensor, output_student: Tensor) -> None:
        """Gathers the statistics of one batch of outputs."""
        is_solved = layer.name not in self._norms and not is_flat(layer, output_teacher)
        # What makes up for a shortcut is not to have the teacher's own statistics.
        matches = self.settings.recalibrate and not self._sums.make_up
        if is_solved and matches and layer.student.bias is not None:
            self._take_statistics(layer, output_teacher, output_student)

    def after_run(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """Matches the statistics of the student's channels to the teacher's."""
        statistics, self._statistics = self._statistics, None
        self._sums.end()
        return None if statistics is None else recalibrate(layer.student, statistics)

    def _held_back(self, graph: fx.Graph, teacher: nn.Module) -> dict[str, str]:
        """The layers whose single weights or bits were to be chosen and stay whole -> why."""
        shared = shared_layers(teacher, graph)
        reasons = {
            name: shared.get(
                name, f"layer {name!r} is not called as a layer of torch.nn: its inputs are unknown"
            )
            for name in sorted(self.plans.choosing - self._solvable)
        }
        if reasons and len(reasons) == len(self.plans.choosing):
            raise ValueError(
                f"scheme must change a layer that can be solved, got {len(reasons)} that cannot; "
                f"{commonest(reasons)}"
            )
        return reasons

    def _take_statistics(self, layer: Layer, teacher: Tensor, student: Tensor) -> None:
        if self._statistics is None:
            axis = -1 if isinstance(layer.teacher, nn.Linear) else 1
            self._statistics = ChannelStatistics(teacher.device, axis)
        self._statistics.accumulate(teacher, student)

    def _begin(self, layer: Layer, input_teacher: Tensor) -> None:
        """Poses the layer as a problem, knowing the size of its inputs."""
        self._form = Form(layer.teacher)
        convolution = self._form.convolution
        size = self._form.image(input_teacher[:1]).shape[2:]
        patch = Patch.of_group(convolution)
        output_size = patch.output_size((size[0], size[1]))
        self._columns = self._num_images * output_size[0] * output_size[1]
        self._sums.begin(convolution.out_channels, output_size)
        bits = self.plans.plan(layer.name, convolution).bits
        self._draws_anew = isinstance(self.settings.solver, Proximal) and bits is None
        self._problem = self._pose(layer, convolution, bits)
        if self.journal is not None:
            self._known = self.journal.find(layer.name, convolution.weight.device)
        self._noise.begin(self.settings.seed + layer.index, input_teacher[0])

    def _accumulate(self, input_teacher: Tensor, input_student: Tensor) -> None:
        form = self._form
        assert form is not None and self._problem is not None
        if not self._draws_anew:
            input_student = self._noise.added(input_student)
        for piece in form.pieces(input_teacher):
            images = [form.image(side[piece]) for side in (input_teacher, input_student)]
            added = self._sums.of(piece, len(input_teacher))
            self._problem.accumulate(images[0], images[1], added)

    def _solve(self, name: str, form: Form) -> Solution:
        problem, plan = self._problem, self.plans.plan(name, form.convolution)
        assert problem is not None
        if ranks.count() == 1:
            return self._minimised(name, problem, plan)
        problem.join_ranks()
        found = ranks.first(lambda: self._minimised(name, problem, plan).to("cpu"))
        return found.to(form.convolution.weight.device)

    def _minimised(self, name: str, problem: LayerProblem, plan: Plan) -> Solution:
        try:
            return problem.solve(plan)
        except torch.linalg.LinAlgError as error:
            raise ValueError(
                f"layer {name} cannot be solved: its inputs are too large, or the damping is "
                f"too small for them, got {self.settings.solver}"
            ) from error

    def _pose(self, layer: Layer, convolution: nn.Conv2d, bits: int | None) -> LayerProblem:
        settings, solver = self.settings, self.settings.solver
        has_shortcuts = self._sums.are_compared
        follows = layer.sum_activation if has_shortcuts else layer.activation
        behind_relu = settings.activation == follows == "relu"
        activation: Activation = "relu" if behind_relu else "none"
        crosses = settings.crossing is None or layer.name in settings.crossing
        objective = settings.objective if crosses else Estimation()
        pose = Pose(convolution, objective, activation, self._columns, has_shortcuts)
        if self._draws_anew:
            pose = replace(pose, noise=settings.noise, seed=settings.seed + layer.index)
        steps = solver.steps if isinstance(solver, Proximal) else 0
        on_step = None if self.progress is None else _Steps(self.progress, layer.name, steps)
        return problem_of(pose, solver, bits, on_step)

    def _remember(self, name: str, solution: Solution, seconds: float) -> None:
        self._drifted, self._known = True, None
        self.plans.remember(name, solution)
        relative = solution.error / solution.error_of_zero if solution.error_of_zero else 0.0
        self.reports.append(
            LayerReport(
                name, self._columns, solution.error_before, solution.error, relative, seconds
            )
        )
        if ranks.is_first():
            _logger.debug("layer %s solved in %.3f s: relative error %.4g", name, seconds, relative)


class _Steps:
    """Tells how many steps of one layer are done."""

    def __init__(self, progress: Progress, name: str, steps: int) -> None:
        self.progress, self.name, self.steps = progress, name, steps

    def __call__(self, step: int) -> None:
        self.progress(f"layer {self.name}, step", step, self.steps)


def _check_names(argument: str, names: Collection[str], known: Collection[str]) -> None:
    for name in sorted(names):
        if name not in known:
            raise ValueError(
                f"{argument} must name convolutions or Linears that the teacher calls once, "
                f"got {shown(name)}"
            )


def _write(student: Any, form: Form, solution: Solution) -> None:
    student.weight.copy_(form.weight(solution.weight))
    if student.bias is not None and solution.bias is not None:
        student.bias.copy_(solution.bias)
