"""Loops that run all their steps in one launch, on sizes that take each way through the kernels.

The emulator has 24 multiprocessors and 160 KB of shared memory (csrc/cuda/launch.cuh); where a loop
runs follows from its sizes alone (csrc/cuda/solve_resident.cuh). Other devices have other limits:
there the same tests hold whatever kernels run.
"""

import pytest
import torch

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import EMULATED, devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
HALF = [torch.float16] if EMULATED or torch.cuda.is_available() else []
TOLERANCE = {torch.float64: 1e-11, torch.float32: 2e-5}
MOMENTUM = {"optimizer": "sgd", "momentum": 0.8, "penalty": "l1"}
ADAM = {"penalty": "l1"}


def schedule(steps, rate=0.02, amount=0.001):
    """Learning rates that drop and thresholds that grow, [steps] each."""
    rates = rate * torch.logspace(0, -1, steps, dtype=torch.float64)
    return rates, torch.linspace(0, amount, steps, dtype=torch.float64)


def assert_same(weight, losses, expected, expected_losses, dtype):
    rtol = TOLERANCE[dtype]
    assert (weight - expected).norm() <= rtol * expected.norm()
    torch.testing.assert_close(losses, expected_losses, rtol=rtol, atol=0)


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


# Emulated: [slab, columns + 5..12] of the Hessian and [16, likewise] of the weight in shared memory.
@pytest.mark.parametrize(("dtype", "rows", "columns", "settings"), [
    (torch.float32, 19, 37, ADAM),       # two blocks with the whole Hessian each
    (torch.float64, 16, 36, MOMENTUM),   # one
    (torch.float32, 19, 203, MOMENTUM),  # 2 x 7 blocks with 32 columns each, 11 of the last in use
    (torch.float32, 5, 203, ADAM),
    (torch.float64, 33, 150, ADAM),      # 3 x 5 blocks with 32 columns
    (torch.float64, 2, 379, MOMENTUM),   # 24 blocks with 16 columns
    (torch.float32, 130, 200, ADAM),     # 9 x 4 blocks would not run together: a launch a step
])  # fmt: skip
def test_moments(device, dtype, rows, columns, settings):
    weight, hessian, target = moments(device, dtype, rows, columns)
    rates, amounts = schedule(8)
    expected = reference.minimise(weight, quadratic(hessian, target), rates, amounts, **settings)
    losses = fsc_ext.solve_quadratic_(
        weight, hessian, target, rates, amounts, scale=0.5, **settings
    )
    assert_same(weight, losses, *expected, dtype)
    assert losses[-1] < losses[0]
