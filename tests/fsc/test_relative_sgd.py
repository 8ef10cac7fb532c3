"""SGD that moves every tensor of weights by a share of its norm."""

import math
import warnings

import pytest
import torch
from networks import chain
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


def moved(scale: float = 1.0, steps: int = 3) -> list[Tensor]:
    """The weights after some steps on a loss of so much."""
    network = small()
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
        kept = MOMENTUM * kept + gradient
        move = gradient + MOMENTUM * kept
        move = move / (move.norm() + 1e-8 * math.sqrt(12))
        expected = (1 - RATE * DECAY) * expected - RATE * expected.norm() * move
        torch.testing.assert_close(weight.detach(), expected, rtol=1e-12, atol=0)
        assert torch.equal(weight.grad, gradient)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1e-30, 1e-25, 1e-12])
def test_gradients_that_are_next_to_nothing_move_next_to_nothing(dtype, value) -> None:
    weight = nn.Parameter(torch.ones(64, dtype=dtype))
    optimizer = RelativeSGD([weight], RATE, MOMENTUM, 0.0)
    for _ in range(20):
        weight.grad = torch.full_like(weight, value)
        optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.ones_like(weight), rtol=3e-4, atol=0)


def test_where_gradients_end_moves_end_with_the_momentum() -> None:
    weight = nn.Parameter(torch.ones(64))
    optimizer = RelativeSGD([weight], 1e-3, MOMENTUM, 0.0)
    for step in range(2000):
        weight.grad = torch.full_like(weight, -1.0 if step == 0 else 0.0)
        optimizer.step()
        if step == 400:
            settled = weight.detach().clone()
    assert torch.equal(weight.detach(), settled) and 1 < float(settled.detach()[0]) < 1.5


def test_it_is_an_optimizer_as_any_of_torch() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = RelativeSGD([weight], RATE, MOMENTUM, 0.0)
    settings = optimizer.state_dict()["param_groups"][0]
    assert [settings[key] for key in ("lr", "momentum", "weight_decay")] == [RATE, MOMENTUM, 0.0]

    def closure() -> float:
        optimizer.zero_grad()
        loss = weight.square().sum()
        loss.backward()
        return float(loss.detach())

    assert optimizer.step(closure) == 3.0
    assert float(weight.detach()[0]) == pytest.approx(1 - RATE)


def test_the_length_of_gradients_does_not_count() -> None:
    for one, other in zip(moved(), moved(1e-3), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


def test_every_tensor_moves_by_the_same_share_and_zeros_grow() -> None:
    for before, after in zip(small().parameters(), moved(steps=1), strict=True):
        size = max(float(before.norm()), 0.01 * math.sqrt(before.numel()))
        assert float((after - before).norm()) == pytest.approx(RATE * size)


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
            method=fsc.MiR(steps=2, learning_rate=1e-9, tune_head=tuned, relative=relative),
            progress=False,
        )
        .student[4]
        .weight
        for tuned, relative in ((True, False), (True, True), (False, True))
    ]
    torch.testing.assert_close(heads[0], heads[1], rtol=1e-4, atol=1e-6)
    assert not torch.allclose(heads[1], heads[2], rtol=1e-3)


@pytest.mark.parametrize(
    "method",
    [
        fsc.MiR(steps=30, learning_rate=0.003, relative=True, precondition=0.3, clip_norm=1.0),
        fsc.FitNet(steps=30, learning_rate=0.003, hint_learning_rate=0.003, relative=True),
        fsc.FSKD(sgd=fsc.methods.JointSGD(steps=30, learning_rate=0.003, relative=True)),
    ],
    ids=lambda method: type(method).__name__,
)
def test_methods_that_train_come_nearer_to_the_teacher(method: fsc.methods.Method) -> None:
    torch.manual_seed(3)
    teacher, images = chain(), torch.randn(12, 3, 8, 8)
    given = {"pruning_ratio": 0.3, "progress": False}
    labels = torch.arange(12) % 3 if isinstance(method, fsc.FitNet) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fsc.CompressionWarning)  # of a network of random weights
        pruned, trained = (
            fsc.compress(teacher, images, method=each, labels=its, **given).report.distance
            for each, its in ((fsc.L1Norm(), None), (method, labels))
        )
    assert trained < pruned


def test_pruned_weights_stay_zero() -> None:
    torch.manual_seed(3)
    teacher, images = chain(), torch.randn(12, 3, 8, 8)
    scheme = fsc.schemes.sparse(teacher, 0.5)
    method = fsc.ProgressiveMiR(
        steps=9, steps_between=3, learning_rate=0.003, relative=True, batch_size=6
    )
    student = fsc.compress(teacher, images, method=method, scheme=scheme, progress=False).student
    for name, count in scheme.kept.items():
        assert int(student.get_submodule(name).weight.count_nonzero()) == count


@pytest.mark.parametrize(
    ("make", "name"), [(fsc.MiR, "learning_rate"), (fsc.FitNet, "hint_learning_rate")]
)
def test_rates_that_are_no_shares_are_refused(make, name) -> None:
    sentence = f"^{name} must be at most 0.01 where relative is True, as a share of the norm of we"
    with pytest.raises(ValueError, match=sentence):
        make(relative=True, **{"learning_rate": 0.01, name: 0.02})
