"""soft_cross_mix and distill_residual, what the layer is made of, against their reference."""

import pytest
import torch
from torch import Tensor

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import FLOATING, REDUCTION_TOLERANCE, devices, layouts

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
LAYOUTS = ["contiguous", "strided", "channels_last"]
CORNERS = [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.9, 0.3), (1.0, 0.5), (0.4, 1.0)]


def dead_units(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """Values with exact zeros, where the slope of ReLU is a convention."""
    return torch.randn(shape, dtype=torch.float64, device=device).mul(2).round().div(2)


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("other", LAYOUTS)
def test_soft_cross_mix_equals_reference(device, dtype, layout, other):
    shape = (3, 20, 13, 17)
    teacher = layouts(torch.randn(shape, dtype=dtype, device=device))[layout]
    student = layouts(torch.randn(shape, dtype=dtype, device=device))[other]
    for alpha, beta in CORNERS:
        mixed = fsc_ext.soft_cross_mix(teacher, student, alpha, beta)
        expected = reference.soft_cross_mix(teacher, student, alpha, beta)
        assert torch.equal(mixed[0], expected[0]) and torch.equal(mixed[1], expected[1])


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("activation", ["relu", "none"])
def test_distill_residual_equals_reference(device, dtype, layout, activation):
    preactivation = layouts(dead_units((2, 7, 41, 19), device).to(dtype))[layout]
    for target in layouts(dead_units((2, 7, 41, 19), device).to(dtype).relu()).values():
        tensors = [preactivation.detach().requires_grad_() for _ in range(2)]
        loss, residual = fsc_ext.distill_residual(tensors[0], target, activation)
        expected, expected_residual = reference.distill_residual(tensors[1], target, activation)
        assert torch.equal(residual, expected_residual)
        torch.testing.assert_close(loss, expected, **REDUCTION_TOLERANCE[dtype])
        (gradient,) = torch.autograd.grad(loss, tensors[0])
        assert torch.equal(gradient, torch.autograd.grad(expected, tensors[1])[0])


def test_nan_stays_nan(device):
    values = torch.tensor([float("nan"), 1.0, -1.0], device=device)
    for sample in [(values, torch.zeros_like(values)), (torch.zeros_like(values), values)]:
        loss, residual = fsc_ext.distill_residual(*sample, "none")
        assert loss.isnan() and residual[0].isnan() and not residual[1:].isnan().any()
    loss, residual = fsc_ext.distill_residual(values, torch.zeros_like(values), "relu")
    assert loss.isnan() and residual[0].isnan()


def test_same_bits_for_any_number_of_threads(device):
    first, second = torch.randn(2, 300_001, device=device)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 1):
            torch.set_num_threads(count)
            mixed = fsc_ext.soft_cross_mix(first, second, 0.9, 0.3)
            found.append([*mixed, *fsc_ext.distill_residual(first, second)])
    finally:
        torch.set_num_threads(threads)
    for again in found[1:]:
        assert all(torch.equal(x, y) for x, y in zip(found[0], again, strict=True))


def test_loss_is_summed_in_float64(device):
    # In float32 the many small terms would vanish beside the few large ones that come first.
    preactivation = torch.full((64, 4096), 2.0**-13, device=device)
    preactivation[:, :16] = 1.0
    loss, _ = fsc_ext.distill_residual(preactivation, torch.zeros_like(preactivation))
    assert loss == preactivation.double().square().sum().float()
