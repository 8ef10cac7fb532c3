"""The fused steps of Adam and gradient descent against torch.optim and the proximal references."""

from functools import partial

import pytest
import torch

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import FLOATING, compiled, devices, layouts

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
every_dtype = pytest.mark.parametrize("dtype", FLOATING, ids=str)

# Penalty, amount: for a weight of 6 filters on 4 channels, 216 weights.
PENALTIES = [
    ("none", 0.0), ("l1", 0.01), ("group_l2", 0.02), ("topk", 100.0), ("topk", 0.0),
    ("topk_groups", 3.0), ("soft_topk", 100.0), ("soft_topk", 216.0), ("soft_topk_groups", 3.0),
    ("soft_topk_groups", 4.0),
]  # fmt: skip
every_penalty = pytest.mark.parametrize(
    ("penalty", "amount"), PENALTIES, ids=[f"{name}-{amount:g}" for name, amount in PENALTIES]
)
HARD = ("topk", "topk_groups")


def expected_step(weight, grad, amount, lr=0.1, **settings):
    one = torch.ones(1, dtype=torch.float64)
    found, _ = reference.minimise(
        weight, lambda w, _: (w * grad).sum(), lr * one, amount * one, **settings
    )
    return found


def mask_of(weight, penalty):
    return torch.ones_like(weight, dtype=torch.bool) if penalty in HARD else None


def tensors(device, dtype=torch.float64, count=2):
    return [torch.randn(6, 4, 3, 3, dtype=dtype, device=device) for _ in range(count)]


@every_dtype
@every_penalty
def test_adam(device, dtype, penalty, amount):
    weight, grad = tensors(device, dtype)
    expected = expected_step(weight, grad, amount, penalty=penalty)
    moments = torch.zeros(2, *weight.shape, dtype=dtype, device=device)
    mask = mask_of(weight, penalty)
    fsc_ext.adam_prox_(weight, grad, *moments, 1, lr=0.1, penalty=penalty, amount=amount, mask=mask)
    torch.testing.assert_close(weight, expected)
    if mask is not None:
        assert torch.equal(mask, expected != 0)
        assert not moments[0][~mask].any() and not moments[1][~mask].any()


@every_dtype
@every_penalty
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd(device, dtype, penalty, amount, momentum):
    weight, grad = tensors(device, dtype)
    settings = {"penalty": penalty, "dim": 1, "momentum": momentum}
    expected = expected_step(weight, grad, amount, optimizer="sgd", **settings)
    buffer = torch.zeros_like(weight) if momentum else None
    mask = mask_of(weight, penalty)
    fsc_ext.sgd_prox_(weight, grad, buffer, lr=0.1, amount=amount, mask=mask, **settings)
    torch.testing.assert_close(weight, expected)
    if buffer is not None and mask is None:
        assert torch.equal(buffer, grad)


@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize(("penalty", "amount"), [("group_l2", 0.5), ("topk_groups", 2.0)])
def test_groups_along_other_dimensions(device, penalty, amount, dim):
    weight, grad = tensors(device)
    expected = expected_step(weight, grad, amount, optimizer="sgd", penalty=penalty, dim=dim)
    mask = mask_of(weight, penalty)
    fsc_ext.sgd_prox_(weight, grad, lr=0.1, penalty=penalty, amount=amount, dim=dim, mask=mask)
    torch.testing.assert_close(weight, expected)


@pytest.mark.parametrize("decay", [0.999, 0.99999])
def test_digits_of_the_second_moment(device, decay):
    """1 - decay is rounded once, not left over of two numbers that are close to each other."""
    weight, grad = tensors(device, torch.float32)
    average, square = torch.zeros(2, *weight.shape, device=device)
    fsc_ext.adam_prox_(weight, grad, average, square, 1, lr=0.1, betas=(decay, decay))
    for found, power in ((average, grad.double()), (square, grad.double().square())):
        expected = (1 - decay) * power
        assert ((found - expected).abs() <= 3e-7 * expected.abs()).all()


@pytest.mark.parametrize("penalty", ["topk", "topk_groups"])
def test_what_went_is_zero_whatever_its_gradient(device, penalty):
    weight, grad = torch.ones(2, 3, device=device), torch.zeros(2, 3, device=device)
    weight[:, 0], grad[:, 0] = 0, float("nan")
    moments = torch.zeros(2, 2, 3, device=device)
    mask = weight != 0
    settings = {"lr": 0.1, "penalty": penalty, "amount": 4.0 if penalty == "topk" else 2.0}
    fsc_ext.adam_prox_(weight, grad, *moments, 1, mask=mask, **settings)
    assert not weight[:, 0].any() and not moments[:, :, 0].any()
    assert torch.equal(mask, weight != 0)


def test_what_goes_is_zero_although_it_diverged(device):
    weight = torch.full((4,), float("inf"), device=device)
    mask, grad = weight > 0, torch.zeros(4, device=device)
    fsc_ext.sgd_prox_(weight, grad, lr=0.1, penalty="topk", amount=1, dim=0, mask=mask)
    assert mask.sum() == 1 and torch.equal(weight, torch.where(mask, torch.inf, 0))


def test_what_went_stays_away(device):
    weight, grad = tensors(device)
    mask = torch.ones_like(weight, dtype=torch.bool)
    moments = torch.zeros(2, *weight.shape, dtype=weight.dtype, device=device)
    settings = {"lr": 0.1, "penalty": "topk", "mask": mask}
    fsc_ext.adam_prox_(weight, grad, *moments, 1, amount=100, **settings)
    gone = ~mask
    fsc_ext.adam_prox_(weight, 100 * grad, *moments, 2, amount=100, **settings)
    assert torch.equal(mask, ~gone) and not weight[gone].any()


def test_state_is_carried_over_steps(device):
    weight, grad = tensors(device)
    parameter = weight.clone().requires_grad_()
    adam = torch.optim.Adam([parameter], lr=0.01, betas=(0.8, 0.95), eps=1e-3)
    moments = torch.zeros(2, *weight.shape, dtype=weight.dtype, device=device)
    for number in range(1, 6):
        parameter.grad = grad * number
        adam.step()
        fsc_ext.adam_prox_(
            weight, grad * number, *moments, number, lr=0.01, betas=(0.8, 0.95), eps=1e-3
        )
    torch.testing.assert_close(weight, parameter.detach(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("layout", ["contiguous", "strided", "channels_last"])
@pytest.mark.parametrize(("penalty", "amount"), [("l1", 0.05), ("topk_groups", 2.0)])
def test_layouts(device, layout, penalty, amount):
    weight, grad = tensors(device)
    expected = expected_step(weight, grad, amount, penalty=penalty)
    given = layouts(weight)[layout]
    moments = [layouts(torch.zeros_like(weight))[layout] for _ in range(2)]
    mask = mask_of(given, penalty)
    settings = {"lr": 0.1, "penalty": penalty, "amount": amount, "mask": mask}
    fsc_ext.adam_prox_(given, layouts(grad)[layout], *moments, 1, **settings)
    torch.testing.assert_close(given, expected)
    assert given.stride() == layouts(weight)[layout].stride()


def test_empty(device):
    weight = torch.empty(0, 3, device=device)
    fsc_ext.sgd_prox_(weight, weight.clone(), lr=0.1, penalty="group_l2", amount=1.0)
    mask = torch.empty(0, 3, dtype=torch.bool, device=device)
    fsc_ext.sgd_prox_(weight, weight.clone(), lr=0.1, penalty="topk", amount=0, mask=mask)
    assert weight.shape == (0, 3)


def test_a_diverged_weight_shows(device):
    weight, grad = tensors(device)
    grad[0, 0, 0, 0] = float("nan")
    mask = mask_of(weight, "topk")
    fsc_ext.sgd_prox_(weight, grad, lr=0.1, penalty="topk", amount=5, mask=mask)
    assert weight[0, 0, 0, 0].isnan() and mask.sum() == 5


def test_same_bits_for_any_number_of_threads(device, one_thread):
    weight = torch.randn(300, 300, device=device)
    grad, alone = torch.randn_like(weight), weight.clone()
    fsc_ext.sgd_prox_(alone, grad, lr=0.1, penalty="group_l2", amount=0.5)
    torch.set_num_threads(2)
    fsc_ext.sgd_prox_(weight, grad, lr=0.1, penalty="group_l2", amount=0.5)
    assert torch.equal(weight, alone)


def test_opcheck(device):
    weight, grad, first, second = tensors(device, count=4)
    mask = mask_of(weight, "topk")
    torch.library.opcheck(
        torch.ops.fsc_ext.adam_prox_,
        (weight, grad, first, second.abs(), mask, 1, 0.1, 0.9, 0.999, 1e-8, "topk", 50.0, 1),
    )
    torch.library.opcheck(
        torch.ops.fsc_ext.sgd_prox_, (weight, grad, first, None, 0.1, 0.9, "l1", 0.1, 1)
    )


def test_compiles(device):
    weight, grad = tensors(device)
    expected = weight.clone()
    fsc_ext.sgd_prox_(expected, grad, lr=0.1, penalty="l1", amount=0.1)

    def step(weight, grad):
        fsc_ext.sgd_prox_(weight, grad, lr=0.1, penalty="l1", amount=0.1)
        return weight * 2

    assert torch.equal(compiled(step)(weight, grad), 2 * expected)
    assert torch.equal(weight, expected)


ADAM = {"exp_avg": torch.zeros(2, 3), "exp_avg_sq": torch.zeros(2, 3), "step": 1}
SHARED_ERRORS = [
    ({"weight": torch.ones(2, 3).long()}, "weight must be float32 or float64"),
    ({"weight": torch.ones(2, 3, requires_grad=True)}, "weight must not require a gradient"),
    ({"grad": torch.ones(3)}, r"grad must have the shape of weight \[2, 3\], got \[3\]"),
    ({"grad": torch.ones(2, 3).double()}, "grad must have the dtype of weight"),
    ({"lr": -1.0}, "lr must be finite and at least 0, got -1"),
    ({"penalty": "l0"}, "penalty must be none, l1, .* got 'l0'"),
    ({"penalty": "l1", "amount": -1.0}, "amount must be finite and at least 0, got -1"),
    ({"penalty": "soft_topk", "amount": 7}, r"amount must be a whole number in \[0, 6\], got 7"),
    ({"penalty": "soft_topk_groups", "amount": 1.5}, "amount must be a whole number in"),
    ({"penalty": "topk"}, "mask must be given with penalty topk or topk_groups"),
    ({"mask": torch.ones(2, 3).bool()}, "mask must be given with penalty topk or topk_groups"),
    ({"penalty": "topk", "mask": torch.ones(2, 3)}, "mask must be bool, got Float"),
    ({"penalty": "topk", "mask": torch.ones(2).bool()}, "mask must have the shape of weight"),
    ({"dim": 2, "penalty": "group_l2"}, r"dim must be in \[-2, 1\] for a tensor of rank 2, got 2"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), [
    *SHARED_ERRORS,
    ({"exp_avg": torch.zeros(3)}, "exp_avg must have the shape of weight"),
    ({"exp_avg_sq": torch.zeros(2, 3).double()}, "exp_avg_sq must have the dtype of weight"),
    ({"step": 0}, "step must be at least 1, got 0"),
    ({"betas": (0.9, 1.0)}, r"betas must be in \[0, 1\), got \(0.9, 1\)"),
    ({"eps": -1.0}, "eps must be finite and at least 0, got -1"),
])  # fmt: skip
def test_errors_of_adam(device, changes, message):
    arguments = {"weight": torch.ones(2, 3), "grad": torch.ones(2, 3), "lr": 0.1, **ADAM, **changes}
    if "weight" in changes:
        arguments["exp_avg"] = arguments["exp_avg_sq"] = torch.zeros_like(arguments["weight"])
    on_device = {n: a.to(device) if torch.is_tensor(a) else a for n, a in arguments.items()}
    with pytest.raises(RuntimeError, match="adam_prox_: " + message):
        fsc_ext.adam_prox_(**on_device)


@pytest.mark.parametrize(("changes", "message"), [
    *SHARED_ERRORS,
    ({"momentum": 1.0, "momentum_buffer": torch.ones(2, 3)}, r"momentum must be in \[0, 1\)"),
    ({"momentum": 0.5}, "momentum_buffer must be given where momentum is not 0"),
    ({"momentum_buffer": torch.ones(2, 3)}, "momentum_buffer must be given where momentum is not"),
    ({"momentum": 0.5, "momentum_buffer": torch.ones(2)}, "momentum_buffer must have the shape"),
])  # fmt: skip
def test_errors_of_sgd(device, changes, message):
    arguments = {"weight": torch.ones(2, 3), "grad": torch.ones(2, 3), "lr": 0.1, **changes}
    on_device = {n: a.to(device) if torch.is_tensor(a) else a for n, a in arguments.items()}
    with pytest.raises(RuntimeError, match="sgd_prox_: " + message):
        fsc_ext.sgd_prox_(**on_device)


@pytest.mark.parametrize("name", ["exp_avg", "exp_avg_sq", "momentum_buffer"])
def test_a_state_that_requires_a_gradient_is_refused_before_anything_changes(device, name):
    weight, state = torch.ones(3, 2, device=device), torch.zeros(3, 2, device=device)
    others = {"exp_avg": state.clone(), "exp_avg_sq": state.clone()}
    marked = {name: state.requires_grad_()}
    step = partial(fsc_ext.sgd_prox_, momentum=0.5)
    if name != "momentum_buffer":
        step, marked = partial(fsc_ext.adam_prox_, step=1), {**others, **marked}
    with pytest.raises(RuntimeError, match=f"_prox_: {name} must not require a gradient"):
        step(weight, torch.ones(3, 2, device=device), lr=0.1, **marked)
    assert (weight == 1).all()
