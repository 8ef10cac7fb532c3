"""Loops that run all their steps in one launch, on sizes that take each way through the kernels.

The emulator has 24 multiprocessors and 160 KB of shared memory (csrc/cuda/launch.cuh), and tells
how many blocks waited for each other. Other devices have other limits: there the same tests hold
whatever kernels run.
"""

import ctypes

import emulator
import pytest
import torch
from torch.nn import functional

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import EMULATED, devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}
MOMENTUM = {"optimizer": "sgd", "momentum": 0.8, "penalty": "l1"}
ADAM = {"penalty": "l1"}
every_optimizer = pytest.mark.parametrize("settings", [ADAM, MOMENTUM], ids=["adam", "momentum"])


def blocks_together():
    """How many blocks waited for each other in the last loop since the last call, or none."""
    return ctypes.CDLL(str(emulator.path())).fsc_blocks_together() if EMULATED else None


@pytest.fixture(autouse=True)
def _forget_other_tests():
    blocks_together()


def assert_together(blocks):
    assert blocks_together() in (blocks, None)


@pytest.fixture
def half(device):
    if device.type == "cpu" and not EMULATED:
        pytest.skip("the CPU takes no half precision")
    return torch.float16


def schedule(steps, rate=0.02, amount=0.001):
    """Learning rates that drop and thresholds that grow, [steps] each."""
    rates = rate * torch.logspace(0, -1, steps, dtype=torch.float64)
    return rates, torch.linspace(0, amount, steps, dtype=torch.float64)


def assert_same(weight, losses, expected, expected_losses):
    """Against a reference in float64."""
    rtol = TOLERANCE[weight.dtype]
    assert (weight - expected).norm() <= rtol * expected.norm()
    torch.testing.assert_close(losses, expected_losses, rtol=rtol, atol=0)


def assert_same_bits(solve, weight, settings):
    """Two runs from the same weight, one of them in pieces of 4, 3 and no steps."""
    rates, amounts = schedule(7)
    whole, pieces = weight.clone(), weight.clone()
    losses, found = solve(whole, rates, amounts, **settings), []
    state = [torch.zeros_like(weight) for _ in range(1 if "momentum" in settings else 2)]
    for part in (slice(0, 4), slice(4, 7), slice(7, 7)):
        first = {"first_step": part.start + 1, "state": state}
        found.append(solve(pieces, rates[part], amounts[part], **first, **settings))
    assert torch.equal(torch.cat(found), losses)
    assert torch.equal(pieces, whole) and not torch.equal(whole, weight)


# ---- on moments ----


def moments(device, dtype, rows, columns):
    """Weight [rows, D], Hessian [D, D] that is no diagonal, and target [rows, D]."""
    images = torch.randn(columns, columns + 20, dtype=torch.float64)
    hessian = images @ images.T / (columns + 20)
    weight = torch.randn(rows, columns, dtype=torch.float64)
    target = torch.randn(rows, columns, dtype=torch.float64) @ hessian
    return [tensor.to(device, dtype) for tensor in (weight, hessian, target)]


def quadratic(hessian, target):
    return lambda w, _: 0.5 * ((w @ hessian * w).sum() - 2 * (w * target).sum())


# Emulated: [slab + 16, columns] numbers and some more must fit into shared memory.
@pytest.mark.parametrize(("dtype", "rows", "columns", "settings", "blocks"), [
    (torch.float32, 19, 37, ADAM, 0),           # two blocks with the whole Hessian each
    (torch.float64, 16, 36, MOMENTUM, 0),       # one
    (torch.float32, 19, 203, MOMENTUM, 2 * 7),  # 32 columns each, 11 of the last in use
    (torch.float32, 5, 203, ADAM, 7),
    (torch.float64, 33, 150, ADAM, 3 * 5),      # 32 columns
    (torch.float64, 2, 379, MOMENTUM, 24),      # 16 columns
    (torch.float32, 130, 200, ADAM, 9 * 2),     # 128 columns: otherwise there were too many
])  # fmt: skip
def test_moments(device, dtype, rows, columns, settings, blocks):
    weight, hessian, target = moments(device, dtype, rows, columns)
    rates, amounts = schedule(8)
    loss = quadratic(hessian.double(), target.double())
    expected = reference.minimise(weight.double(), loss, rates, amounts, **settings)
    losses = fsc_ext.solve_quadratic_(
        weight, hessian, target, rates, amounts, scale=0.5, **settings
    )
    assert_same(weight, losses, *expected)
    assert losses[-1] < losses[0]
    assert_together(blocks)


def test_moments_in_half_precision(device, half):
    weight, hessian, target = moments(device, half, 18, 203)
    expected = weight.float()
    rates, amounts = schedule(6)
    for w in (weight, expected):
        fsc_ext.solve_quadratic_(
            w, hessian.to(w.dtype), target.to(w.dtype), rates, amounts, **MOMENTUM, scale=0.5
        )
    torch.testing.assert_close(weight.float(), expected, rtol=1e-3, atol=1e-3)


def test_rows_of_moments_stand_alone(device):
    weight, hessian, target = moments(device, torch.float32, 19, 203)
    rates, amounts = schedule(3)
    clean, target_with_hole = weight.clone(), target.clone()
    target_with_hole[17, 5] = float("nan")
    fsc_ext.solve_quadratic_(clean, hessian, target, rates, amounts, **ADAM)
    losses = fsc_ext.solve_quadratic_(weight, hessian, target_with_hole, rates, amounts, **ADAM)
    assert losses.isnan().all() and weight[17].isnan().all()
    rest = torch.arange(19, device=device) != 17
    assert torch.equal(weight[rest], clean[rest])


@every_optimizer
def test_moments_have_the_same_bits_in_pieces(device, settings):
    weight, hessian, target = moments(device, torch.float32, 19, 203)

    def solve(w, rates, amounts, **more):
        return fsc_ext.solve_quadratic_(w, hessian, target, rates, amounts, **more)

    assert_same_bits(solve, weight, settings)


# ---- on images ----


def layer(device, dtype, images, channels, filters, size, conv):
    """Weight, input and target of a layer, then its bias, shortcut and weights of the images."""
    weight = 0.1 * torch.randn(filters, channels, *conv["kernel"], dtype=torch.float64)
    x = torch.randn(images, channels, *size, dtype=torch.float64)
    target = torch.randn_like(functional.conv2d(x, weight, **geometry(conv))).relu()
    tensors = (
        weight, x, target, torch.randn(filters), torch.randn_like(target), torch.rand(images),
    )  # fmt: skip
    return [tensor.to(device, dtype) for tensor in tensors]


def geometry(conv):
    return {name: value for name, value in conv.items() if name != "kernel"}


def layer_loss(conv, x, target, bias=None, shortcut=None, share=None, activation="relu"):
    def loss(weight, _):
        output = functional.conv2d(x, weight, bias, **geometry(conv))
        output = output if shortcut is None else output + shortcut
        output = output.relu() if activation == "relu" else output
        errors = (output - target).square().flatten(1).sum(1)
        return (errors if share is None else errors * share).mean()

    return loss


SAME = {"kernel": (3, 3), "padding": 1}
UNEVEN = {"kernel": (2, 3), "stride": (2, 1), "padding": (1, 2), "dilation": (1, 2)}


# Emulated: 24 slices where the filters are one group of 16, 12 where they are two.
@pytest.mark.parametrize(
    ("dtype", "images", "channels", "filters", "size", "conv", "settings", "blocks"), [
    (torch.float32, 5, 3, 6, (9, 7), SAME, ADAM, 5),               # a slice an image
    (torch.float32, 29, 3, 16, (5, 5), SAME, MOMENTUM, 15),        # two images, the last has one
    (torch.float32, 2, 5, 19, (13, 11), SAME, ADAM, 2 * 8),        # four rows, the last has one
    (torch.float64, 3, 4, 17, (12, 12), UNEVEN, ADAM, 2 * 6),      # four rows or three
    (torch.float64, 26, 2, 33, (4, 6), UNEVEN, MOMENTUM, 3 * 7),   # four images or two
    (torch.float32, 3, 64, 20, (6, 6), SAME, MOMENTUM, 2 * 3),     # more tiles than warps
    (torch.float64, 13, 8, 16, (16, 16), SAME, ADAM, 13),          # idle warps, for want of memory
    (torch.float32, 4, 7, 5, (15, 9), {"kernel": (3, 3), "stride": 2}, ADAM, 4),
    (torch.float32, 1, 20, 2, (8, 8), {"kernel": (1, 1)}, ADAM, 2),
    (torch.float32, 9, 2, 200, (3, 3), SAME, ADAM, 13),            # all images
])  # fmt: skip
def test_images(device, dtype, images, channels, filters, size, conv, settings, blocks):
    weight, *tensors = layer(device, dtype, images, channels, filters, size, conv)
    x, target, bias, shortcut, share = tensors
    rates, amounts = schedule(5)
    loss = layer_loss(conv, *(tensor.double() for tensor in tensors))
    expected = reference.minimise(weight.double(), loss, rates, amounts, **settings)
    losses = fsc_ext.solve_relu_(
        weight, x, target, rates, amounts, bias=bias, shortcut=shortcut, image_weight=share,
        **geometry(conv), **settings,
    )  # fmt: skip
    assert_same(weight, losses, *expected)
    assert_together(blocks)


@pytest.mark.parametrize("activation", ["relu", "none"])
def test_images_alone(device, activation):
    weight, x, target, *_ = layer(device, torch.float64, 5, 3, 6, (9, 7), SAME)
    rates, amounts = schedule(5, rate=0.001)
    loss = layer_loss(SAME, x, target, activation=activation)
    expected = reference.minimise(weight, loss, rates, amounts, optimizer="sgd")
    losses = fsc_ext.solve_relu_(
        weight, x, target, rates, amounts, activation=activation, padding=1, optimizer="sgd"
    )
    assert_same(weight, losses, *expected)
    assert losses[-1] < losses[0]


def test_images_in_half_precision(device, half):
    weight, x, target, *_ = layer(device, half, 5, 3, 6, (9, 7), SAME)
    rates, amounts = schedule(5, rate=0.001)
    expected, settings = weight.float(), {"padding": 1, "optimizer": "sgd"}
    losses = fsc_ext.solve_relu_(weight, x, target, rates, amounts, **settings)
    others = fsc_ext.solve_relu_(expected, x.float(), target.float(), rates, amounts, **settings)
    torch.testing.assert_close(weight.float(), expected, rtol=2e-3, atol=1e-3)
    torch.testing.assert_close(losses, others, rtol=1e-3, atol=0)


@every_optimizer
def test_images_have_the_same_bits_in_pieces(device, settings):
    weight, *tensors = layer(device, torch.float32, 2, 5, 19, (13, 11), SAME)

    def solve(w, rates, amounts, **more):
        return fsc_ext.solve_relu_(w, *tensors[:2], rates, amounts, padding=1, **more)

    assert_same_bits(solve, weight, settings)


def test_a_hole_in_the_images_goes_everywhere(device):
    weight, x, target, *_ = layer(device, torch.float32, 5, 3, 18, (9, 7), SAME)
    x[3, 1, 4, 4] = float("nan")
    rates, amounts = schedule(2)
    losses = fsc_ext.solve_relu_(weight, x, target, rates, amounts, padding=1, **ADAM)
    assert losses.isnan().all() and weight.isnan().all()


def test_no_steps(device):
    weight, x, target, *_ = layer(device, torch.float32, 2, 3, 6, (9, 7), SAME)
    before, none = weight.clone(), torch.empty(0, dtype=torch.float64)
    assert fsc_ext.solve_relu_(weight, x, target, none, none, padding=1).shape == (0,)
    assert torch.equal(weight, before)
