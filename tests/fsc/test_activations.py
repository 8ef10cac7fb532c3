"""The ReLU behind a layer: found right behind it, or behind the addition that it feeds."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fsc
from fsc import models
from fsc.layers.accelerated_problem import AcceleratedProblem
from fsc.layers.layer_problem import Plan, Pose
from fsc.layers.objectives import Convex, Estimation, Soft
from fsc.layers.proximal_problem import ProximalProblem
from fsc.networks import surgery
from fsc.networks.tracing import layer_names, trace
from fsc.solvers.accelerated import Accelerated
from fsc.solvers.proximal import Proximal
from fsc.walking.activations import following_activation, run_shortcuts_first, shortcut_of
from fsc.walking.visitor import Layer, Visitor
from fsc.walking.walk import walk


class Block(nn.Module):
    """A residual block with a convolution on its shortcut, called after the other branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.identity = nn.Identity()
        self.downsample = nn.Conv2d(3, 4, 1)
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        out = self.identity(self.conv2(self.relu(self.conv1(x))))
        out += self.downsample(x)
        return self.head(self.relu(out)) + 1.0


class Shortcuts(Visitor):
    """Keeps the shortcuts and outputs that it sees."""

    def __init__(self) -> None:
        self.sums: dict[str, list[list[Tensor]]] = {}
        self.outputs: dict[str, list[list[Tensor]]] = {}

    def on_shortcuts(self, layer: Layer, teacher: Tensor, student: Tensor) -> None:
        self.sums.setdefault(layer.name, []).append([teacher, student])

    def before_run(self, layer: Layer) -> None:
        layer.student.weight *= 0.5

    def on_outputs(self, layer: Layer, output_teacher: Tensor, output_student: Tensor) -> None:
        self.outputs.setdefault(layer.name, []).append([output_teacher, output_student])


def test_activation_looks_through_identity_but_not_through_batch_norm() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Identity(), nn.ReLU(), nn.Conv2d(3, 3, 1))
    assert following_activation(model, trace(model), "0") == "relu"
    model[1] = nn.BatchNorm2d(3)
    assert following_activation(model, trace(model), "0") == "none"


def test_activation_is_none_when_something_else_reads_the_layer() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.convolution(x)
            return F.relu(y) - y

    model = Both()
    assert following_activation(model, trace(model), "convolution") == "none"


@pytest.mark.parametrize("find", [following_activation, shortcut_of])
def test_unknown_layer_is_named(find: object) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1))
    with pytest.raises(ValueError, match="that model calls, got 'conv9'"):
        find(model, trace(model), "conv9")


def test_only_the_later_branch_has_a_shortcut() -> None:
    model = Block()
    graph = trace(model)
    found = {name: shortcut_of(model, graph, name) for name in layer_names(model, graph)}
    assert {name for name, node in found.items() if node is not None} == {"downsample"}
    assert found["downsample"].target == "identity"


def test_shortcuts_without_layers_run_first_and_change_nothing() -> None:
    model = models.build("resnet14").eval()
    surgery.fold_batch_norm(model)
    graph = trace(model)
    names = layer_names(model, graph)
    run_shortcuts_first(model, graph)
    graph.lint()
    assert layer_names(model, graph) == names
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(torch.fx.GraphModule(model, graph)(x), model(x))
    order = list(graph.nodes)
    found = {name: shortcut_of(model, graph, name) for name in names}
    behind = {name for name, node in found.items() if node is not None}
    assert behind == {name for name in names if name.endswith("conv2")}
    for name, node in found.items():
        if node is not None:
            layer = next(n for n in order if n.target == name)
            assert order.index(node) < order.index(layer)


def test_a_walk_shows_what_each_network_adds() -> None:
    teacher = Block().double().eval()
    student = deepcopy(teacher)
    images = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    visitor = Shortcuts()
    walk(teacher, student, images, visitor, batch_size=2)
    assert set(visitor.sums) == {"downsample"}
    seen = visitor.sums["downsample"]
    for batch, pair in enumerate(visitor.outputs["conv2"]):
        for side in (0, 1):
            assert torch.equal(seen[batch][side], pair[side])
    assert not torch.equal(seen[0][0], seen[0][1])


@pytest.mark.parametrize("solver", [Accelerated(), Proximal(5)])
def test_one_value_a_channel_may_be_added(solver: Accelerated | Proximal) -> None:
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3, padding=1)
            self.shift = nn.Parameter(torch.randn(1, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return F.relu(self.conv2(self.conv1(x)) + self.shift)

    method = fsc.CrossDistillation(solver=solver, activation="relu", after_addition=True)
    images, scheme = torch.randn(5, 3, 6, 6), fsc.schemes.Scheme("mine", {"conv1": 2})
    result = fsc.compress(Shifted().eval(), images, method=method, scheme=scheme, batch_size=2)
    assert result.report.layers[-1].error <= result.report.layers[-1].error_before


@pytest.mark.parametrize("objective", [Soft(), Convex(0.7), Estimation()])
@pytest.mark.parametrize("solver", [Accelerated(damping=0.1), Proximal(60, learning_rate=0.01)])
def test_a_layer_is_compared_behind_the_addition(
    objective: Soft | Convex | Estimation, solver: Accelerated | Proximal
) -> None:
    layer = nn.Conv2d(6, 4, 3, padding=1).double().requires_grad_(False)
    teacher = torch.randn(6, 6, 5, 5, dtype=torch.float64)
    student = teacher + 0.3 * torch.randn_like(teacher)
    own = torch.randn(6, 4, 5, 5, dtype=torch.float64)
    shortcuts = (own, own + 0.3 * torch.randn_like(own))
    pose = Pose(layer, objective, "relu", 6 * 25, has_shortcuts=True)
    make = AcceleratedProblem(pose, solver) if isinstance(solver, Accelerated) else None
    problem = make or ProximalProblem(pose, solver, None)
    for part in (slice(0, 4), slice(4, 6)):
        problem.accumulate(teacher[part], student[part], tuple(s[part] for s in shortcuts))
    found = problem.solve(Plan(torch.arange(6), num_channels=3))

    expected = 0.0
    for term in objective.terms:
        mixed_teacher = term.alpha * teacher + (1 - term.alpha) * student
        mixed_student = (1 - term.beta) * teacher + term.beta * student
        target = (layer(mixed_teacher) + shortcuts[0]).relu()
        output = F.conv2d(mixed_student, found.weight, found.bias, padding=1) + shortcuts[1]
        expected += term.weight * float((output.relu() - target).square().sum()) / 6
    assert found.error == pytest.approx(expected, rel=1e-9)
    assert found.error < found.error_before
