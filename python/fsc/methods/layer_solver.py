"""The visitor of cross distillation: solves one layer after another on the walk."""

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fsc.layers.accelerated_problem import AcceleratedProblem
from fsc.layers.closed_form_problem import ClosedFormProblem
from fsc.layers.layer_problem import (
    Activation,
    Axis,
    LayerProblem,
    Pose,
    Shortcuts,
    Solution,
    Solver,
)
from fsc.layers.objectives import Estimation, Objective
from fsc.layers.proximal_problem import ProximalProblem
from fsc.layers.quantized_problem import QuantizedProblem
from fsc.methods.base import LayerReport, Progress, Task
from fsc.methods.plans import ChannelPlans, Support, plans_of
from fsc.methods.recalibration import OutputStatistics, recalibrate
from fsc.networks.quantized_inputs import QuantizedInputConv2d
from fsc.solvers.accelerated import Accelerated
from fsc.solvers.closed_form import ClosedForm
from fsc.solvers.patch import Patch
from fsc.solvers.proximal import Proximal
from fsc.walking.walk import Layer, Visitor


@dataclass(frozen=True)
class Settings:
    """The hyper-parameters of `CrossDistillation`, the solver chosen."""

    objective: Objective
    solver: Solver
    activation: Activation
    axis: Axis
    recalibrate: bool
    after_addition: bool = False
    crossing: frozenset[str] | None = None
    noise: float = 0.0
    seed: int = 0
    support: Support | None = None


class LayerSolver(Visitor):
    """Solves every convolution whose input has drifted or that takes part in the scheme.

    Convolutions that moments cannot express (grouped, or padded otherwise than with zeros) keep the
    teacher's weight when the scheme leaves them alone, and are refused when it does not.

    Args:
        settings: hyper-parameters.
        task: scheme, groups of channels, progress and journal.
        teacher: the folded teacher, for the network's structure.

    Raises:
        ValueError: the scheme does not fit the teacher, or a layer whose single weights or bits are
            to be chosen cannot be solved.
    """

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
        self.reports: list[LayerReport] = []
        solvable = {name: m for name, m in teacher.named_modules() if _is_solvable(m)}
        solver = settings.solver
        selection = "norm" if isinstance(solver, Proximal) else solver.selection
        self.plans = plans_of(task, settings.axis, settings.support, selection, teacher, solvable)
        self._solvable = {n for n, module in solvable.items() if isinstance(module, nn.Conv2d)}
        self._check_choosing_layers()
        self._drifted = False
        self._generator = torch.Generator()
        _check_names("crossing", settings.crossing or (), self._solvable)
        self._problem: LayerProblem | None = None
        self._known: Solution | None = None
        self._shortcuts: Shortcuts | None = None
        self._outputs = OutputStatistics()
        self._columns = 0

    def wants(self, name: str) -> bool:
        """Whether the layer has anything to solve for."""
        if isinstance(self.plans, ChannelPlans) and name in self.plans.readers:
            # Whether it can be solved for or not, it goes on with less than the teacher has.
            self._drifted = True
        return name in self.plans.choosing or (self._drifted and name in self._solvable)

    def on_shortcuts(self, layer: Layer, teacher: Tensor, student: Tensor) -> None:
        """Keeps what both layers are added to, where they are compared behind the addition."""
        if self.settings.activation == "relu" and self.settings.after_addition:
            self._shortcuts = teacher, student

    def on_inputs(self, layer: Layer, input_teacher: Tensor, input_student: Tensor) -> None:
        """Gathers what the layer's solver needs of one batch."""
        if isinstance(layer.student, QuantizedInputConv2d):
            input_student = layer.student.quantized(input_student)
        if isinstance(layer.teacher, nn.Linear):
            layer = _as_convolution(layer)
            input_teacher, input_student = _as_image(input_teacher), _as_image(input_student)
        size = (input_teacher.shape[2], input_teacher.shape[3])
        if self._problem is None:
            self._columns = layer.num_images * Patch.of(layer.teacher).num_columns(size)
            self._problem = self._pose(layer)
            self._known = self._solved_before(layer)
            self._generator.manual_seed(self.settings.seed + layer.index)
        shortcuts = self._shortcuts
        if shortcuts is not None:
            # What is added may be one value a channel.
            shape = (len(input_teacher), -1, *Patch.of(layer.teacher).output_size(size))
            shortcuts = shortcuts[0].expand(shape), shortcuts[1].expand(shape)
        if self._known is None:
            self._problem.accumulate(input_teacher, self._with_noise(input_student), shortcuts)

    def before_run(self, layer: Layer) -> None:
        """Solves the layer and writes its weight into the student."""
        layer = _as_convolution(layer)
        assert self._problem is not None and isinstance(layer.student, nn.Conv2d)
        start = time.perf_counter()
        solution = self._known
        if solution is None:
            solution = self._solve(layer, self._problem)
            if self.journal is not None:
                self.journal.add(layer.name, solution)
        self._problem = self._shortcuts = None
        self._outputs = OutputStatistics(layer.student.weight.device)
        self._write(layer.student, solution)
        self._remember(layer.name, solution, time.perf_counter() - start)

    def _solved_before(self, layer: Layer) -> Solution | None:
        assert isinstance(layer.student, nn.Conv2d)
        if self.journal is None:
            return None
        return self.journal.find(layer.name, layer.student.weight.device)

    def _solve(self, layer: Layer, problem: LayerProblem) -> Solution:
        assert isinstance(layer.student, nn.Conv2d)
        try:
            return problem.solve(self.plans.plan(layer.name, layer.student))
        except torch.linalg.LinAlgError as error:
            raise ValueError(
                f"layer {layer.name} cannot be solved: its inputs are too large, or the damping is "
                f"too small for them, got {self.settings.solver}"
            ) from error

    def on_outputs(self, layer: Layer, output_teacher: Tensor, output_student: Tensor) -> None:
        """Gathers the statistics of one batch of outputs."""
        if self.settings.recalibrate and isinstance(layer.student, nn.Conv2d):
            self._outputs.accumulate(output_teacher, output_student)

    def after_run(self, layer: Layer) -> Callable[[Tensor], Tensor] | None:
        """Matches the statistics of the student's channels to the teacher's."""
        student = layer.student
        if not self.settings.recalibrate or not isinstance(student, nn.Conv2d):
            return None
        return None if student.bias is None else recalibrate(student, self._outputs)

    def _check_choosing_layers(self) -> None:
        if isinstance(self.plans, ChannelPlans):
            return  # who reads fewer channels and cannot be solved for keeps its other weights
        for name in sorted(self.plans.choosing - self._solvable):
            raise ValueError(
                "scheme must change convolutions without groups and with equal zero padding on "
                f"both sides for cross distillation, got layer {name}"
            )

    def _with_noise(self, features: Tensor) -> Tensor:
        """The paper's Gauss.: noise of a share of the largest feature of each image."""
        if self.settings.noise == 0:
            return features
        # Image by image, so that the result does not depend on the batch size.
        draws = [
            torch.randn(image.shape, generator=self._generator, device="cpu") for image in features
        ]
        largest = features.amax((1, 2, 3), keepdim=True)  # [N, 1, 1, 1]
        return features + self.settings.noise * largest * torch.stack(draws).to(features)

    def _pose(self, layer: Layer) -> LayerProblem:
        assert isinstance(layer.teacher, nn.Conv2d)
        settings, solver = self.settings, self.settings.solver
        has_shortcuts = self._shortcuts is not None
        behind_relu = settings.activation == layer.activation == "relu" or has_shortcuts
        activation: Activation = "relu" if behind_relu else "none"
        crosses = settings.crossing is None or layer.name in settings.crossing
        objective = settings.objective if crosses else Estimation()
        pose = Pose(layer.teacher, objective, activation, self._columns, has_shortcuts)
        steps = solver.steps if isinstance(solver, Proximal) else 0
        on_step = self._step_progress(layer.name, steps)
        if self.plans.plan(layer.name, layer.teacher).bits is not None:
            assert not isinstance(solver, Accelerated)
            return QuantizedProblem(pose, solver, on_step)
        if isinstance(solver, Proximal):
            return ProximalProblem(pose, solver, on_step)
        if isinstance(solver, Accelerated) and activation == "relu":
            return AcceleratedProblem(pose, solver)
        return ClosedFormProblem(pose, ClosedForm(solver.selection, solver.damping))

    def _step_progress(self, name: str, steps: int) -> "_Steps | None":
        return None if self.progress is None else _Steps(self.progress, name, steps)

    @staticmethod
    def _write(student: nn.Conv2d, solution: Solution) -> None:
        student.weight.copy_(solution.weight)
        if student.bias is not None and solution.bias is not None:
            student.bias.copy_(solution.bias)

    def _remember(self, name: str, solution: Solution, seconds: float) -> None:
        self._drifted = True
        self.plans.remember(name, solution)
        relative = solution.error / solution.error_of_zero if solution.error_of_zero else 0.0
        self.reports.append(
            LayerReport(
                name, self._columns, solution.error_before, solution.error, relative, seconds
            )
        )


class _Steps:
    """Tells how many steps of one layer are done."""

    def __init__(self, progress: Progress, name: str, steps: int) -> None:
        self.progress, self.name, self.steps = progress, name, steps

    def __call__(self, step: int) -> None:
        self.progress(f"steps of {self.name}", step, self.steps)


def _check_names(argument: str, names: Collection[str], known: Collection[str]) -> None:
    for name in sorted(names):
        if name not in known:
            raise ValueError(
                f"{argument} must name convolutions of the teacher without groups, got {name!r}"
            )


def _is_solvable(layer: nn.Module) -> bool:
    try:
        Patch.of(layer)
    except ValueError:
        return False
    return True


def _as_convolution(layer: Layer) -> Layer:
    """A Linear as the convolution with one pixel that it is, on the same weights."""
    if not isinstance(layer.teacher, nn.Linear):
        return layer
    forms = []
    for linear in (layer.teacher, layer.student):
        assert isinstance(linear, nn.Linear)
        form = nn.Conv2d(linear.in_features, linear.out_features, 1, device="meta")
        form.weight = nn.Parameter(linear.weight.detach()[:, :, None, None], requires_grad=False)
        bias = linear.bias
        form.bias = None if bias is None else nn.Parameter(bias.detach(), requires_grad=False)
        forms.append(form)
    return replace(layer, teacher=forms[0], student=forms[1])


def _as_image(features: Tensor) -> Tensor:
    """What a Linear reads, [N, ..., C], as the image of its convolution, [N, C, pixels, 1]."""
    return (
        features.flatten(1, -2).movedim(-1, 1)[..., None]
        if features.ndim > 2
        else (features[:, :, None, None])
    )
