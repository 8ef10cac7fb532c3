"""Cross Distillation (Bai et al., AAAI 2020): layer by layer, inputs of both networks crossed."""

import math
import operator
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from fsc.arguments import as_names, check_fields
from fsc.images.augmentation import enough, filled_up
from fsc.layers.layer_problem import Activation, Axis, Solver, selection_of
from fsc.layers.objectives import Objective, Soft
from fsc.methods.base import Outcome, Task
from fsc.methods.layer_solver import Settings
from fsc.methods.layerwise import solve_layers
from fsc.methods.plans import Support
from fsc.networks.joint_input import joint_of
from fsc.schemes import AnyScheme, QuantizedScheme, SparseScheme
from fsc.solvers.accelerated import Accelerated
from fsc.solvers.closed_form import ClosedForm, Selection
from fsc.solvers.proximal import Proximal
from fsc.wording import shown

# In images; measured on ResNet-56 with nine weights of ten removed.
SPARSE_DAMPING = 0.5


@dataclass(frozen=True)
class CrossDistillation:
    """Structured and unstructured pruning, and quantization, by cross distillation.

    Lifecycle:
        1. fold every BatchNorm into its convolution, in copies of the teacher;
        2. where the scheme quantizes activations, clip and round what the student's convolutions
           read, limits found on the teacher;
        3. walk both networks side by side; at each layer, grouped and transposed convolutions
           included, gather the inputs of both and solve its objective, on fewer channels where the
           scheme says so and on all of them where it does not (Algorithm 1 runs over every layer);
        4. write the new weight and bias into the student, match the statistics of its outputs to
           the teacher's, and walk on with the corrected student; at a BatchNorm that stands before
           a convolution, and so was not folded, take its statistics anew;
        5. cut the dead channels out, where channels were pruned.

    Layers before the first pruned one have nothing to correct and keep the teacher's weight.

    Args:
        objective: Estimation ("Ours-NC"), Correction, Imitation, Convex ("Ours") or Soft
            ("Ours-S"; the default, with the paper's (0.9, 0.5) for ResNets).
        solver: `ClosedForm` and `Proximal` go with activation "none", `Proximal` and `Accelerated`
            with "relu". None: `ClosedForm()` or `Accelerated()`; for a scheme of single weights
            `ClosedForm(damping=0.5)`, as fewer of them are to be determined, or `Proximal()`.
        activation: "none" compares the layer's outputs before the activation, as the released
            code does. "relu" compares them after the activation that follows the layer, as the
            paper writes it. Quantized layers are always compared before it.
        after_addition: compares a layer whose output is added to a shortcut behind the addition,
            each network with its own shortcut, so that the layer makes up for what the student's
            shortcut has lost; with activation "relu" behind the ReLU that follows, where one does.
            Not with `Proximal` before the activation. False compares such a layer before the
            addition.
        axis: "input_channels" prunes what a layer reads, as the released code does;
            "output_filters" prunes what a producer writes, as Eq. 11 of the paper does. Either
            where one layer alone reads the channels; channels that several layers read, or that
            reach a layer that cannot be solved for, are chosen before, as the solver's
            `selection` says: by what a removal costs all readers together in the teacher, see
            `fsc.schemes.removal`, or by the L1 norm.
        recalibrate: gives every channel of a solved layer the mean and deviation that it has in
            the teacher, on the same images, but where it makes up for a shortcut. The convex and
            the correction loss leave these to drift from layer to layer.
        crossing: names of the convolutions where the inputs cross; the others minimise the
            estimation error (Table 19). None: all of them.
        support: what stays, where another method has chosen it already: name of each layer of the
            scheme -> its output channels, or for a scheme of single weights, with `ClosedForm`
            only, the weights' numbers in the flattened tensor. None: the solver chooses.
        noise: deviation of Gaussian noise on the student's features while a layer is solved, as a
            share of their maximum; 0.2 is the paper's "Gauss." (Table 14). `Proximal` draws it anew
            at every step, but for quantized layers; not behind an addition, see `after_addition`.
        solve_on: the least number of images that layers are solved on: where fewer are given,
            mirror images and hard ones join them, see `fsc.images.augmentation.filled_up`. Moments
            add up, so that they cost their forwards alone; but what the walk holds grows with them,
            so that they end where all together have 2^24 values: 111 of 224x224 pixels. 0: the
            given ones, as the paper has it.

    Raises:
        ValueError: a choice is unknown, or the solver does not go with the activation.
        TypeError: the objective or the solver is none.
    """

    objective: Objective = field(default_factory=Soft)
    solver: Solver | None = None
    activation: Activation = "none"
    axis: Axis = "input_channels"
    after_addition: bool = False
    recalibrate: bool = True
    crossing: Collection[str] | None = None
    noise: float = 0.0
    support: Support | None = None
    solve_on: int = 0

    def __post_init__(self) -> None:
        """Refuses unknown choices before any work is done."""
        check_fields(self)
        _check_choice("activation", self.activation, ("none", "relu"))
        _check_choice("axis", self.axis, ("input_channels", "output_filters"))
        if not isinstance(self.objective, Objective):
            raise TypeError(
                f"objective must be an objective such as fsc.Soft(), got {shown(self.objective)}"
            )
        _check_solver(self.solver, self.activation)
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise must be finite and at least 0, got {self.noise}")
        if self.solve_on < 0:
            raise ValueError(f"solve_on must be at least 0, got {self.solve_on}")
        if self.crossing is not None:
            # In one order, so that two runs can tell that they are the same.
            names = tuple(sorted(as_names("crossing", self.crossing)))
            object.__setattr__(self, "crossing", names)
        by_steps = isinstance(self.solver, Proximal)
        if self.after_addition and self.activation == "none" and by_steps:
            raise ValueError(
                "after_addition must be False with Proximal before the activation, got True"
            )
        if self.after_addition and self.noise and by_steps:
            raise ValueError(
                f"noise must be 0 with Proximal and after_addition, got {self.noise:g}"
            )
        if self.support is not None:
            object.__setattr__(self, "support", _integers(self.support))
            if self.axis != "input_channels":
                raise ValueError(
                    f"axis must be 'input_channels' with a support, got {shown(self.axis)}"
                )

    @property
    def selection(self) -> Selection:
        """How channels are chosen where no layer chooses among them while it is solved."""
        return selection_of(self.solver or ClosedForm())

    def compress(self, task: Task) -> Outcome:
        """Compresses a copy of the task's teacher."""
        if joint_of(task.teacher) is None:
            count = self.walks_on(len(task.images), task.images[0].numel())
            task = replace(task, images=filled_up(task.images, count, seed=task.seed))
        return solve_layers(task, self._settings(task))

    def walks_on(self, given: int, values: int) -> int:
        """How many images layers are solved on, where so many of so many values are given."""
        return enough(given, self.solve_on, values)

    def _settings(self, task: Task) -> Settings:
        return Settings(
            objective=self.objective,
            solver=self._solver(task.scheme),
            activation=self.activation,
            axis=self.axis,
            recalibrate=self.recalibrate,
            after_addition=self.after_addition,
            crossing=None if self.crossing is None else frozenset(self.crossing),
            noise=self.noise,
            seed=task.seed,
            support=self.support,
        )

    def _solver(self, scheme: AnyScheme) -> Solver:
        """The solver, or the default one; it must go with the scheme."""
        is_sparse = isinstance(scheme, SparseScheme)
        solver = self.solver
        if solver is None and self.activation == "none":
            solver = ClosedForm(damping=SPARSE_DAMPING) if is_sparse else ClosedForm()
        elif solver is None:
            solver = Proximal() if is_sparse else Accelerated()
        if isinstance(scheme, QuantizedScheme):
            _check_quantizing(solver, self.activation)
        if is_sparse and isinstance(solver, Accelerated):
            raise ValueError(
                "solver must be ClosedForm or Proximal for a scheme of single weights, "
                "got Accelerated"
            )
        if is_sparse and self.support is not None and isinstance(solver, Proximal):
            raise ValueError("solver must be ClosedForm for given single weights, got Proximal")
        return solver


def _check_quantizing(solver: Solver, activation: Activation) -> None:
    if activation == "relu":
        raise ValueError("activation must be 'none' for a quantized scheme, got 'relu'")
    if isinstance(solver, Proximal) and solver.batch_size:
        raise ValueError(f"batch_size must be 0 for a quantized scheme, got {solver.batch_size}")


def _integers(support: Support) -> dict[str, tuple[int, ...]]:
    try:
        return {name: tuple(operator.index(i) for i in given) for name, given in support.items()}
    except (AttributeError, TypeError) as error:
        raise TypeError(
            f"support must map names of layers to sequences of integers, got {shown(support)}"
        ) from error


def _check_choice(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {shown(value)}")


def _check_solver(solver: object, activation: str) -> None:
    if solver is None:
        return
    if not isinstance(solver, ClosedForm | Proximal | Accelerated):
        raise TypeError(
            f"solver must be one of fsc.solvers, e.g. ClosedForm(), got {shown(solver)}"
        )
    wrong = Accelerated if activation == "none" else ClosedForm
    if isinstance(solver, wrong):
        raise ValueError(
            f"solver must be another one with activation {activation!r}, got {wrong.__name__}: "
            "ClosedForm solves before the activation, Accelerated behind a ReLU"
        )
