"""Noise that every step draws anew: the loop against one in plain PyTorch, and against none."""

from dataclasses import replace

import pytest
import torch
from networks import chain, small
from torch import Tensor, nn
from torch.nn import functional

import fsc
from fsc.layers.layer_problem import Plan, Pose
from fsc.layers.objectives import Objective
from fsc.layers.proximal_problem import ProximalProblem
from fsc.schemes import Scheme
from fsc.solvers import Proximal

OBJECTIVES = [fsc.Soft(0.9, 0.3), fsc.Convex(0.7), fsc.Estimation()]
SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


def layer() -> nn.Conv2d:
    return nn.Conv2d(5, 4, 3, stride=2, padding=1, dtype=torch.float64).requires_grad_(False)


def inputs(count: int = 7) -> tuple[Tensor, Tensor]:
    teacher = torch.randn(count, 5, 6, 6, dtype=torch.float64).relu()
    return teacher, (teacher + 0.1 * torch.randn_like(teacher)).relu()


def posed(convolution: nn.Conv2d, objective: Objective, count: int = 7) -> Pose:
    return Pose(convolution, objective, "relu", count * 9, noise=0.2, seed=11)


def looped(
    convolution: nn.Conv2d, objective: Objective, steps: int, batch: int, sides: list[Tensor]
) -> Tensor:
    """Adam on minibatches in turn, everything as PyTorch has it; input channel 3 is dead."""
    alive = (torch.arange(5) != 3)[:, None, None]
    weight = (convolution.weight.detach() * alive).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=1e-3)
    generator = torch.Generator().manual_seed(11)
    for step in range(steps):
        start = step * batch % len(sides[0]) if batch else 0
        teacher, student = (side[start : start + batch if batch else None] for side in sides)
        largest = student.amax((1, 2, 3), keepdim=True)
        student = student + 0.2 * largest * torch.randn(
            student.shape, generator=generator, dtype=student.dtype
        )
        loss = 0
        for term in objective.terms:
            x_teacher = term.alpha * teacher + (1 - term.alpha) * student
            x_student = (1 - term.beta) * teacher + term.beta * student
            target = functional.conv2d(
                x_teacher, convolution.weight.detach(), convolution.bias, 2, 1
            ).relu()
            output = functional.conv2d(x_student, weight, convolution.bias.detach(), 2, 1).relu()
            loss = loss + term.weight * (output - target.detach()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        weight.grad *= alive
        optimizer.step()
    return weight.detach()


@pytest.mark.parametrize("batch", [0, 7, 1])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_steps_are_those_of_a_plain_loop(objective: Objective, batch: int) -> None:
    convolution, (teacher, student) = layer(), inputs()
    solver = Proximal(steps=120, learning_rate=1e-3, ramp=1, decay=1, batch_size=batch)
    problem = ProximalProblem(posed(convolution, objective), solver, None)
    problem.accumulate(teacher[:3], student[:3], None)
    problem.accumulate(teacher[3:], student[3:], None)
    found = problem.solve(Plan(torch.tensor([0, 1, 2, 4]))).weight
    expected = looped(convolution, objective, 120, batch, [teacher, student])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)
    assert not torch.equal(found[:, :3], convolution.weight[:, :3])


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_without_noise_they_are_those_of_the_stored_targets(optimizer: str) -> None:
    convolution, (teacher, student) = layer(), inputs()
    solver = Proximal(40, 1e-2, optimizer=optimizer, momentum=0.5 * (optimizer == "sgd"))
    pose = posed(convolution, fsc.Convex(0.7))
    found = []
    for noise in (0.0, 1e-12):  # the second takes the other way
        problem = ProximalProblem(replace(pose, noise=noise), solver, None)
        problem.accumulate(teacher, student, None)
        # Of the channels that carry anything three stay; the fourth was dead before.
        found.append(problem.solve(Plan(torch.tensor([0, 1, 2, 4]), num_channels=3)))
    stored, drawn = found
    assert torch.equal(drawn.channels, stored.channels) and len(stored.channels) == 3
    assert not drawn.weight[:, 3].any()
    torch.testing.assert_close(drawn.weight, stored.weight, rtol=0, atol=1e-8)
    torch.testing.assert_close(
        torch.tensor([drawn.error_before, drawn.error, drawn.error_of_zero]),
        torch.tensor([stored.error_before, stored.error, stored.error_of_zero]),
    )


@pytest.mark.parametrize("activation", ["none", "relu"])
def test_a_network_is_compressed_with_noise_from_the_seed(activation: str) -> None:
    teacher, images = chain(), torch.randn(12, 3, 8, 8)
    method = fsc.CrossDistillation(
        solver=Proximal(steps=20, batch_size=5), activation=activation, noise=0.2
    )

    def student(method: fsc.CrossDistillation, **settings: int) -> dict[str, Tensor]:
        result = fsc.compress(teacher, images, method=method, scheme=SCHEME, **settings)
        return result.student.state_dict()

    first, again, other = (student(method, seed=seed) for seed in (0, 0, 1))
    pieces = student(method, batch_size=3, memory_budget=0)
    without = student(replace(method, noise=0.0))
    for name in first:
        assert torch.equal(first[name], again[name]), name
        torch.testing.assert_close(pieces[name], first[name], rtol=0, atol=1e-4)
    assert not torch.equal(first["conv2.weight"], other["conv2.weight"])
    assert not torch.equal(first["conv2.weight"], without["conv2.weight"])


@pytest.mark.parametrize(
    "scheme", [Scheme("half", {"0": 4}), fsc.schemes.QuantizedScheme("w4", {"0": 4})], ids=str
)
def test_grouped_and_quantized_layers_see_noise_too(scheme: fsc.schemes.AnyScheme) -> None:
    teacher, images = small().eval(), torch.randn(6, 3, 10, 10)
    noisy = fsc.CrossDistillation(solver=Proximal(steps=5), noise=0.2)
    students = [
        fsc.compress(teacher, images, method=method, scheme=scheme).student.state_dict()
        for method in (noisy, replace(noisy, noise=0.0))
    ]
    first, grouped = ("0.weight", "4.weight")
    assert not torch.equal(students[0][grouped], students[1][grouped])
    is_quantized = isinstance(scheme, fsc.schemes.QuantizedScheme)
    assert torch.equal(students[0][first], students[1][first]) != is_quantized


def test_an_addition_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"noise must be 0 with Proximal and after_addition, got 0.2"
    ):
        fsc.CrossDistillation(solver=Proximal(), activation="relu", after_addition=True, noise=0.2)
