"""Layers in closed form that make up for what the student's shortcuts have lost."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import fsc
from fsc import models
from fsc.layers.closed_form_problem import ClosedFormProblem
from fsc.layers.grouped_problem import GroupedProblem
from fsc.layers.layer_problem import Plan, Pose
from fsc.layers.moments import Columns, Moments
from fsc.layers.objectives import Convex, Estimation, Objective, Soft
from fsc.layers.quantized_problem import QuantizedProblem
from fsc.solvers.closed_form import ClosedForm

OBJECTIVES = [Estimation(), Soft(0.8, 0.4), Convex(0.7)]


def posed(layer: nn.Conv2d, objective: Objective, size: int, images: int) -> tuple:
    """A layer's pose with inputs and shortcuts of both networks."""
    pose = Pose(layer, objective, "none", images * size**2, has_shortcuts=True)
    teacher = torch.randn(images, layer.in_channels, size, size, dtype=torch.float64)
    student = teacher + 0.3 * torch.randn_like(teacher)
    own = torch.randn(images, layer.out_channels, size, size, dtype=torch.float64)
    return pose, teacher, student, (own, own + 0.3 * torch.randn_like(own))


def loss_of(pose: Pose, weight: Tensor, bias: Tensor, inputs: tuple, shortcuts: tuple) -> float:
    """The objective behind the addition, as it is written."""
    layer, total = pose.layer, 0.0
    for term in pose.objective.terms:
        mixed_teacher = term.alpha * inputs[0] + (1 - term.alpha) * inputs[1]
        mixed_student = (1 - term.beta) * inputs[0] + term.beta * inputs[1]
        target = layer(mixed_teacher) + shortcuts[0]
        output = F.conv2d(mixed_student, weight, bias, padding=1, groups=layer.groups)
        total += term.weight * float((output + shortcuts[1] - target).square().sum())
    return total / len(inputs[0])


def solved(problem: object, plan: Plan, inputs: tuple, shortcuts: tuple):
    """The solution, the inputs taken up in two batches."""
    for part in (slice(0, 3), slice(3, None)):
        given = [side[part] for side in (*inputs, *shortcuts)]
        problem.accumulate(given[0], given[1], (given[2], given[3]))
    return problem.solve(plan)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize(("size", "kind"), [(6, Moments), (2, Columns)])
def test_what_a_shortcut_lost_is_in_the_target(objective: Objective, size: int, kind: type) -> None:
    layer = nn.Conv2d(8, 4, 3, padding=1).double().requires_grad_(False)
    pose, *inputs, shortcuts = posed(layer, objective, size, images=5)
    problem = ClosedFormProblem(pose, ClosedForm(damping=1e-9))
    assert isinstance(problem.statistics.inputs, kind)
    found = solved(problem, Plan(torch.arange(8), num_channels=5), tuple(inputs), shortcuts)
    expected = loss_of(pose, found.weight, found.bias, tuple(inputs), shortcuts)
    assert found.error == pytest.approx(expected, rel=1e-6, abs=1e-9)
    # A minimum: every step away from it costs.
    weight = found.weight.clone().requires_grad_(True)
    used = torch.zeros_like(weight)
    used[:, found.channels] = 1
    value = torch.zeros((), dtype=torch.float64)
    for term in objective.terms:
        mixed_teacher = term.alpha * inputs[0] + (1 - term.alpha) * inputs[1]
        mixed_student = (1 - term.beta) * inputs[0] + term.beta * inputs[1]
        target = layer(mixed_teacher) + shortcuts[0]
        output = F.conv2d(mixed_student, weight, found.bias, padding=1) + shortcuts[1]
        value = value + term.weight * (output - target).square().sum()
    (gradient,) = torch.autograd.grad(value, weight)
    assert (gradient * used).abs().max() < 1e-5


@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
@pytest.mark.parametrize("groups", [2, 8])
def test_groups_make_up_for_their_own_channels(objective: Objective, groups: int) -> None:
    layer = nn.Conv2d(8, 8, 3, padding=1, groups=groups).double().requires_grad_(False)
    pose, *inputs, shortcuts = posed(layer, objective, 5, images=6)
    problem = GroupedProblem(pose, ClosedForm(damping=1e-6))
    found = solved(problem, Plan(torch.arange(8)), tuple(inputs), shortcuts)
    expected = loss_of(pose, found.weight, found.bias, tuple(inputs), shortcuts)
    assert found.error == pytest.approx(expected, rel=1e-9)
    before = loss_of(pose, layer.weight, layer.bias, tuple(inputs), shortcuts)
    assert found.error_before == pytest.approx(before, rel=1e-9)
    assert found.error < before


def test_quantized_layers_make_up_too() -> None:
    layer = nn.Conv2d(8, 4, 3, padding=1).double().requires_grad_(False)
    pose, *inputs, shortcuts = posed(layer, Estimation(), 6, images=5)
    problem = QuantizedProblem(pose, ClosedForm(damping=1e-3), None)
    found = solved(problem, Plan(torch.arange(8), bits=8), tuple(inputs), shortcuts)
    expected = loss_of(pose, found.weight, found.bias, tuple(inputs), shortcuts)
    assert found.error == pytest.approx(expected, rel=1e-9)


def test_sums_are_nearer_to_the_teacher_than_without() -> None:
    teacher = models.build("resnet20").eval()
    images = torch.randn(16, 3, 32, 32)

    def distance(**settings: object) -> float:
        method = fsc.CrossDistillation(Estimation(), recalibrate=False, **settings)
        return fsc.compress(teacher, images, method=method, scheme="res-50").report.distance

    assert distance(after_addition=True) < 0.9 * distance()


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 6, 1, 1), (1, 1, 1, 1), (1, 6, 8, 8)])
def test_what_is_added_may_be_narrower(shape: tuple[int, ...]) -> None:
    class Shifted(nn.Module):
        """A map of any shape is added to a layer's output, and its own mean over channels."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
            self.conv2, self.conv3 = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 6, 1)
            self.shift = nn.Parameter(torch.randn(shape))

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv2(self.conv1(x).relu()) + self.shift
            return self.conv3(x) + x.mean(1, keepdim=True)

    method = fsc.CrossDistillation(Estimation(), after_addition=True)
    images, scheme = torch.randn(6, 3, 8, 8), fsc.schemes.Scheme("mine", {"conv1": 4})
    report = fsc.compress(Shifted().eval(), images, method=method, scheme=scheme).report
    assert {layer.name for layer in report.layers} == {"conv2", "conv3"}


def test_what_is_added_to_one_value_a_channel_is_compared_before_the_addition() -> None:
    class Context(nn.Module):
        """x + f(mean of x): the layer's output is one value a channel, the sum is not."""

        def __init__(self) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
            self.conv2 = nn.Conv2d(8, 6, 3, padding=1)
            self.context = nn.Conv2d(6, 6, 1)
            self.head = nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv2(self.conv1(x).relu())
            return self.head(x + self.context(x.mean((2, 3), keepdim=True)))

    method = fsc.CrossDistillation(Estimation(), after_addition=True)
    images, scheme = torch.randn(6, 3, 8, 8), fsc.schemes.Scheme("mine", {"conv1": 4})
    report = fsc.compress(Context().eval(), images, method=method, scheme=scheme).report
    assert {layer.name for layer in report.layers} >= {"conv2", "context"}


@pytest.mark.parametrize(("activation", "differs"), [("none", True), ("relu", False)])
def test_a_sum_without_a_relu_behind_is_compared_before_the_activation_only(
    activation: str, differs: bool
) -> None:
    class Linear(nn.Module):
        """Two bottlenecks whose sums no ReLU reads; the second one's shortcut has drifted."""

        def __init__(self) -> None:
            super().__init__()
            self.conv0, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 1)
            self.conv1, self.conv2 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
            self.conv3, self.conv4 = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv0(x)
            x = x + self.conv2(self.conv1(x).relu())
            return self.head(x + self.conv4(self.conv3(x).relu()))

    model, images = Linear().eval(), torch.randn(8, 3, 8, 8)
    scheme = fsc.schemes.Scheme("mine", {"conv1": 4})
    before, behind = (
        fsc.compress(
            model,
            images,
            method=fsc.CrossDistillation(
                Estimation(), activation=activation, after_addition=after, recalibrate=False
            ),
            scheme=scheme,
        ).student
        for after in (False, True)
    )
    assert torch.equal(before.conv3.weight, behind.conv3.weight)
    assert torch.equal(before.conv4.weight, behind.conv4.weight) != differs
