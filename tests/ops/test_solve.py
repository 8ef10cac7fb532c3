"""The native loops against torch.optim, autograd and the proximal references."""

import pytest
import torch
from torch.nn import functional

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import FLOATING, compiled, devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)

NUM_STEPS = 200
# Where a schedule goes: to a small threshold, or from all to half of the weights or groups.
AMOUNTS = {
    "none": (0, 0), "l1": (0, 0.003), "group_l2": (0, 0.004), "topk": (216, 100),
    "topk_groups": (4, 2), "soft_topk": (216, 100), "soft_topk_groups": (4, 2),
}  # fmt: skip
every_penalty = pytest.mark.parametrize("penalty", AMOUNTS)
every_optimizer = pytest.mark.parametrize(
    "settings",
    [{}, {"optimizer": "sgd"}, {"optimizer": "sgd", "momentum": 0.8}],
    ids=["adam", "sgd", "momentum"],
)


def schedule(penalty, steps=NUM_STEPS):
    """Learning rates that drop and amounts that ramp over the first third, [steps] each."""
    learning_rates = torch.full((steps,), 0.02, dtype=torch.float64)
    learning_rates[steps // 3 :] *= 0.1
    start, end = AMOUNTS[penalty]
    share = torch.linspace(0, 3, steps, dtype=torch.float64).clamp(max=1)
    amounts = start + (end - start) * share
    return learning_rates, amounts.ceil() if start > 1 else amounts


def moments(device, dtype=torch.float64):
    """Weight [6, 4, 3, 3], Hessian [36, 36] and target [6, 36]."""
    columns = torch.randn(36, 200, dtype=dtype, device=device)
    weight = torch.randn(6, 4, 3, 3, dtype=dtype, device=device)
    hessian = columns @ columns.T / 200
    return weight, hessian, torch.randn_like(weight).flatten(1) @ hessian


def quadratic(hessian, target, scale):
    def loss(weight, _):
        w = weight.flatten(1)
        return scale * ((w @ hessian * w).sum() - 2 * (w * target).sum())

    return loss


def images(device, dtype=torch.float64, count=5):
    """Weight [6, 4, 3, 3], input [N, 4, 7, 7] and target [N, 6, 4, 4] at stride 2."""
    weight = torch.randn(6, 4, 3, 3, dtype=dtype, device=device) * 0.2
    x = torch.randn(count, 4, 7, 7, dtype=dtype, device=device)
    target = torch.randn(count, 6, 4, 4, dtype=dtype, device=device).relu()
    return weight, x, target


def layer_loss(x, target, bias=None, shortcut=0.0, share=None, batch_size=0, activation="relu"):
    size = batch_size or len(x)

    def loss(weight, number):
        begin = number % -(-len(x) // size) * size
        part = slice(begin, begin + size)
        output = functional.conv2d(x[part], weight, bias, stride=2, padding=1)
        output = output + (shortcut if isinstance(shortcut, float) else shortcut[part])
        output = output.relu() if activation == "relu" else output
        errors = (output - target[part]).square().flatten(1).sum(1)
        return (errors if share is None else errors * share[part]).mean()

    return loss


def assert_same_run(weight, losses, expected, expected_losses, rtol=1e-5):
    assert (weight - expected).norm() <= rtol * expected.norm()
    torch.testing.assert_close(losses, expected_losses, rtol=rtol, atol=rtol * 1e-3)
    assert losses[-1] < losses[0]


@every_penalty
@every_optimizer
def test_trajectory_on_moments(device, penalty, settings):
    weight, hessian, target = moments(device)
    rates, amounts = schedule(penalty)
    settings = {"penalty": penalty, **settings}
    loss = quadratic(hessian, target, 0.5)
    expected = reference.minimise(weight, loss, rates, amounts, **settings)
    losses = fsc_ext.solve_quadratic_(
        weight, hessian, target, rates, amounts, scale=0.5, **settings
    )
    assert_same_run(weight, losses, *expected)
    assert torch.equal(weight == 0, expected[0] == 0)


@every_penalty
@every_optimizer
def test_trajectory_on_images(device, penalty, settings):
    weight, x, target = images(device)
    bias = torch.randn(6, dtype=x.dtype, device=device)
    shortcut, share = torch.randn_like(target), torch.rand(5, dtype=x.dtype, device=device)
    rates, amounts = schedule(penalty)
    settings = {"penalty": penalty, **settings}
    loss = layer_loss(x, target, bias, shortcut, share, batch_size=2)
    expected = reference.minimise(weight, loss, rates, amounts, **settings)
    losses = fsc_ext.solve_relu_(
        weight, x, target, rates, amounts, bias=bias, shortcut=shortcut, image_weight=share,
        stride=2, padding=1, batch_size=2, **settings,
    )  # fmt: skip
    # Losses of different minibatches need not fall from one to the next.
    assert (weight - expected[0]).norm() <= 1e-5 * expected[0].norm()
    torch.testing.assert_close(losses, expected[1], rtol=1e-5, atol=1e-8)
    assert torch.equal(weight == 0, expected[0] == 0)


@pytest.mark.parametrize("penalty", ["l1", "group_l2"])
@pytest.mark.parametrize("channels", [10, 24])
@pytest.mark.parametrize("filters", [6, 20, 40])
def test_minibatches_of_wider_layers(device, filters, channels, penalty):
    # On GPUs few pixels split the products, of the last batch, which is smaller, more often.
    weight = torch.randn(filters, channels, 3, 3, device=device) * 0.1
    x = torch.randn(7, channels, 7, 7, device=device)
    target = torch.randn(7, filters, 4, 4, device=device).relu()
    rates, amounts = torch.tensor([[0.02] * 5, [0.01] * 5], dtype=torch.float64)
    settings = {"penalty": penalty, "optimizer": "sgd", "momentum": 0.8}
    loss = layer_loss(x, target, batch_size=4)
    expected = reference.minimise(weight, loss, rates, amounts, **settings)
    losses = fsc_ext.solve_relu_(
        weight, x, target, rates, amounts, stride=2, padding=1, batch_size=4, **settings
    )
    torch.testing.assert_close(weight, expected[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses.float(), expected[1].float(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("activation", ["relu", "none"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_all_images_at_once(device, activation, layout):
    weight, x, target = images(device)
    rates, amounts = schedule("group_l2")
    loss = layer_loss(x, target, activation=activation)
    expected = reference.minimise(weight, loss, rates, amounts, penalty="group_l2", dim=0)
    losses = fsc_ext.solve_relu_(
        weight, x.contiguous(memory_format=layout), target, rates, amounts, activation=activation,
        stride=2, padding=1, penalty="group_l2", dim=0,
    )  # fmt: skip
    assert_same_run(weight, losses, *expected)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_few_steps_in_each_dtype(device, dtype):
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {}
    rates, amounts = schedule("soft_topk_groups", 12)
    weight, hessian, target = moments(device, dtype)
    loss = quadratic(hessian, target, 1.0)
    expected, _ = reference.minimise(weight, loss, rates, amounts, penalty="soft_topk_groups")
    fsc_ext.solve_quadratic_(weight, hessian, target, rates, amounts, penalty="soft_topk_groups")
    torch.testing.assert_close(weight, expected, **tolerance)
    weight, x, target = images(device, dtype)
    loss = layer_loss(x, target)
    expected, _ = reference.minimise(weight, loss, rates, amounts, penalty="soft_topk_groups")
    fsc_ext.solve_relu_(
        weight, x, target, rates, amounts, stride=2, padding=1, penalty="soft_topk_groups"
    )
    torch.testing.assert_close(weight, expected, **tolerance)


@pytest.mark.parametrize("penalty", ["topk", "soft_topk"])
def test_a_run_in_pieces_has_the_bits_of_one(device, penalty):
    weight, x, target = images(device)
    rates, amounts = schedule(penalty, 40)
    settings = {"stride": 2, "padding": 1, "batch_size": 2, "penalty": penalty}
    whole = weight.clone()
    losses = fsc_ext.solve_relu_(whole, x, target, rates, amounts, **settings)
    mask = torch.ones_like(weight, dtype=torch.bool) if penalty == "topk" else None
    state, found = [torch.zeros_like(weight) for _ in range(2)], []
    for begin in range(0, 40, 15):
        part = slice(begin, begin + 15)
        found.append(
            fsc_ext.solve_relu_(
                weight, x, target, rates[part], amounts[part], state=state, mask=mask,
                first_step=begin + 1, **settings,
            )
        )  # fmt: skip
    assert torch.equal(weight, whole) and torch.equal(torch.cat(found), losses)


def test_same_result_for_any_number_of_threads(device, one_thread):
    weight, x, target = images(device, torch.float32, count=40)
    rates, amounts = schedule("soft_topk", 5)
    alone = weight.clone()
    expected = fsc_ext.solve_relu_(alone, x, target, rates, amounts, stride=2, padding=1)
    torch.set_num_threads(2)
    losses = fsc_ext.solve_relu_(weight, x, target, rates, amounts, stride=2, padding=1)
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(weight, alone)


def test_nothing_to_do(device):
    weight, hessian, target = moments(device)
    before, none = weight.clone(), torch.empty(0, dtype=torch.float64)
    assert fsc_ext.solve_quadratic_(weight, hessian, target, none, none).shape == (0,)
    empty = torch.empty(0, 36, dtype=torch.float64, device=device)
    rates, amounts = schedule("l1", 3)
    losses = fsc_ext.solve_quadratic_(empty, hessian, empty, rates, amounts, penalty="l1")
    assert torch.equal(weight, before) and not losses.any()


def test_schedule_on_another_device(device):
    weight, hessian, target = moments(device)
    rates, amounts = schedule("none", 3)
    message = r"solve_quadratic_: amounts must be float64 on the CPU, got torch.float64 on meta"
    with pytest.raises(RuntimeError, match=message):
        fsc_ext.solve_quadratic_(weight, hessian, target, rates, amounts.to("meta"))


def test_betas_that_are_no_pair(device):
    weight, hessian, target = moments(device)
    with pytest.raises(
        ValueError, match=r"solve_quadratic_: betas must be two numbers, got \(0.9,\)"
    ):
        fsc_ext.solve_quadratic_(weight, hessian, target, *schedule("none", 3), betas=(0.9,))


def test_state_that_is_there_twice(device):
    weight, hessian, target = moments(device)
    state = [torch.zeros_like(weight)] * 2
    message = r"solve_quadratic_: state\[1\] must have memory of its own, got that of state\[0\]"
    with pytest.raises(RuntimeError, match=message):
        fsc_ext.solve_quadratic_(weight, hessian, target, *schedule("none", 3), state=state)


def test_state_on_another_device(device):
    weight, hessian, target = moments(device)
    rates, amounts = schedule("none", 3)
    state = [torch.empty_like(weight, device="meta") for _ in range(2)]
    with pytest.raises(ValueError, match=r"solve_quadratic_: .* one device, .* state\[1\] on meta"):
        fsc_ext.solve_quadratic_(weight, hessian, target, rates, amounts, state=state)


def test_opcheck(device):
    rates, amounts = schedule("topk", 4)
    weight, hessian, target = moments(device)
    state, mask = [torch.zeros_like(weight) for _ in range(2)], torch.ones_like(weight).bool()
    coefficients = [0.9, 0.999, 1e-8, 0.0]
    torch.library.opcheck(
        torch.ops.fsc_ext.solve_quadratic_,
        (weight, state, mask, hessian, target, rates, amounts, 1.0, True, coefficients, "topk", 1,
         1),
    )  # fmt: skip
    weight, x, target = images(device)
    torch.library.opcheck(
        torch.ops.fsc_ext.solve_relu_,
        (weight, state, mask, x, target, None, None, None, rates, amounts, 1.0, "relu", [2, 2],
         [1, 1], [1, 1], 0, True, coefficients, "topk", 1, 1),
    )  # fmt: skip


def test_compiles(device):
    weight, x, target = images(device)
    rates, amounts = schedule("l1", 4)
    expected = weight.clone()
    losses = fsc_ext.solve_relu_(expected, x, target, rates, amounts, stride=2, padding=1)
    solve = compiled(fsc_ext.solve_relu_)
    assert torch.equal(solve(weight, x, target, rates, amounts, stride=2, padding=1), losses)
    assert torch.equal(weight, expected)
