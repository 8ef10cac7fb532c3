"""SGD that moves every tensor of weights by a share of its norm."""

import math

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc.methods.relative_sgd import RelativeSGD

RATE, MOMENTUM, DECAY = 0.01, 0.9, 0.1


def small() -> nn.Module:
    """A network in float64, of which one tensor is zero."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)).double()
    nn.init.zeros_(network[3].bias)
    return network


def moved(scale: float = 1.0, steps: int = 3, layout=torch.contiguous_format) -> list[Tensor]:
    """The weights after some steps on a loss of so much."""
    network = small().to(memory_format=layout)
    torch.manual_seed(1)
    images = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    optimizer = RelativeSGD(network.parameters(), RATE, MOMENTUM, 0.0)
    for _ in range(steps):
        optimizer.zero_grad()
        (scale * network(images).square().sum()).backward()
        optimizer.step()
    return [each.detach() for each in network.parameters()]


def test_it_is_its_formula() -> None:
    torch.manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
    expected, kept = weight.detach().clone(), torch.zeros_like(weight)
    optimizer = RelativeSGD([weight], RATE, MOMENTUM, DECAY)
    for _ in range(4):
        gradient = torch.randn_like(weight)
        weight.grad = gradient.clone()
        optimizer.step()
        decayed = gradient + DECAY * expected
        kept = MOMENTUM * kept + decayed
        move = decayed + MOMENTUM * kept
        expected = expected - RATE * expected.norm() * move / move.norm()
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=0)
        assert torch.equal(weight.grad, gradient)


def test_the_length_of_gradients_does_not_count() -> None:
    for one, other in zip(moved(), moved(1e-6), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-15)


def test_every_tensor_moves_by_the_same_share_and_zeros_grow() -> None:
    for before, after in zip(small().parameters(), moved(steps=1), strict=True):
        size = max(float(before.norm()), 0.01 * math.sqrt(before.numel()))
        assert float((after - before).norm()) == pytest.approx(RATE * size)


def test_the_layout_in_memory_does_not_count() -> None:
    for one, other in zip(moved(), moved(layout=torch.channels_last), strict=True):
        torch.testing.assert_close(one, other)


def test_what_has_no_gradient_stays() -> None:
    still, zero, loose = (nn.Parameter(torch.ones(3)) for _ in range(3))
    zero.grad, loose.grad = torch.zeros(3), torch.ones(3)
    RelativeSGD([still, zero, loose], RATE, MOMENTUM, 0.0).step()
    assert torch.equal(still, torch.ones(3)) and torch.equal(zero, torch.ones(3))
    assert not torch.equal(loose, torch.ones(3))


def test_layers_of_other_scales_need_no_rate_of_their_own() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    images = torch.randn(16, 3, 8, 8)
    with torch.no_grad():
        teacher[0].weight.mul_(30)
        teacher[0].bias.mul_(30)
        teacher[2].weight.div_(30)

    def error(method: type[torch.optim.Optimizer], rate: float) -> float:
        student = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        torch.manual_seed(1)
        state = {
            key: each + 0.2 * each.std() * torch.randn_like(each)
            for key, each in teacher.state_dict().items()
        }
        student.load_state_dict(state)
        optimizer = method(student.parameters(), lr=rate, momentum=0.9, weight_decay=0.0)
        for step in range(60):
            optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / 60)) / 2
            optimizer.zero_grad()
            loss = (student(images) - teacher(images)).square().mean()
            loss.backward()
            optimizer.step()
        return float(loss.detach().nan_to_num(math.inf))

    rates = [2.0**exponent for exponent in range(-18, 0, 2)]
    plain, relative = (
        min(error(method, rate) for rate in rates) for method in (torch.optim.SGD, RelativeSGD)
    )
    assert relative < 0.5 * plain


def test_a_head_is_tuned_at_a_rate_of_its_own() -> None:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)
    teacher, images = nn.Sequential(*layers).eval(), torch.randn(6, 3, 8, 8)
    heads = [
        fsc.compress(
            teacher,
            images,
            pruning_ratio=0.5,
            method=fsc.MiR(steps=2, learning_rate=1e-9, tune_head=True, relative=relative),
            progress=False,
        )
        .student[4]
        .weight
        for relative in (False, True)
    ]
    torch.testing.assert_close(heads[0], heads[1], rtol=1e-4, atol=1e-6)
