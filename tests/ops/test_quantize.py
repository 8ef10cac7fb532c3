"""Quantized weights against their reference."""

import pytest
import torch

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import FLOATING, compiled, devices, layouts

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
every_dtype = pytest.mark.parametrize("dtype", FLOATING, ids=str)


def random_weight(device, dtype=torch.float64):
    weight = torch.randn(6, 4, 3, 3, dtype=dtype, device=device)
    weight[0, 0, 0, 0] = 20.0  # Beyond three sigmas, of its channel and of the tensor.
    return weight


@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("per_channel", [True, False])
def test_values(device, dtype, bits, per_channel):
    weight = random_weight(device, dtype)
    found = fsc_ext.quantize_weight(weight, bits, per_channel=per_channel)
    expected = reference.quantize_weight(weight, bits, per_channel=per_channel)
    torch.testing.assert_close(found, expected)
    rows = found.flatten(1) if per_channel else found.view(1, -1)
    assert all(len(row.unique()) <= 2**bits for row in rows)
    pulled = fsc_ext.prox_quantize(weight, bits, 3.0, per_channel=per_channel)
    torch.testing.assert_close(pulled, (weight + 3 * expected) / 4)


def test_no_pull_and_constants(device):
    weight = random_weight(device)
    assert torch.equal(fsc_ext.prox_quantize(weight, 2, 0.0), weight)
    constant = torch.full((2, 3), 0.7, device=device)
    assert torch.equal(fsc_ext.quantize_weight(constant, 3), constant)


def test_straight_through_gradient(device):
    weight = random_weight(device).requires_grad_()
    upstream = torch.randn_like(weight)
    (gradient,) = torch.autograd.grad(fsc_ext.quantize_weight(weight, 2), weight, upstream)
    expected = upstream.clone()
    expected[0, 0, 0, 0] = 0
    inside = reference.quantize_weight(weight, 2).detach()
    low = inside.flatten(1).amin(1).view(-1, 1, 1, 1)
    high = inside.flatten(1).amax(1).view(-1, 1, 1, 1)
    expected[(weight < low) | (weight > high)] = 0
    assert torch.equal(gradient, expected)
    assert gradient[0, 0, 0, 0] == 0 and (gradient != 0).sum() > 200
    whole = fsc_ext.quantize_weight(weight, 2, per_channel=False).sum()
    (gradient,) = torch.autograd.grad(whole, weight)
    assert gradient[0, 0, 0, 0] == 0


@every_dtype
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_nothing_is_clipped_in_short_rows(device, dtype, bits):
    # Five values never reach three of their deviations: every gradient passes.
    weight = torch.randn(500, 5, dtype=dtype, device=device, requires_grad=True)
    fsc_ext.quantize_weight(weight, bits).sum().backward()
    assert (weight.grad == 1).all()


def test_nan_spreads_over_its_channel(device):
    rows = torch.tensor([[0, 0.2, 0.6, torch.nan], [torch.nan, 0.2, 0.6, 0], [0, 0.2, 0.6, 0.9]])
    found = fsc_ext.quantize_weight(rows.to(device), 2)
    assert found[:2].isnan().all() and not found[2].isnan().any()


@pytest.mark.parametrize("layout", ["contiguous", "strided", "channels_last"])
def test_layouts(device, layout):
    weight = random_weight(device)
    expected = fsc_ext.quantize_weight(weight, 3)
    assert torch.equal(fsc_ext.quantize_weight(layouts(weight)[layout], 3), expected)


def test_empty(device):
    weight = torch.empty(0, 3, device=device, requires_grad=True)
    fsc_ext.quantize_weight(weight, 2).sum().backward()
    assert weight.grad.shape == (0, 3)


@every_dtype
@pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")], ids=str)
def test_rows_that_have_no_range(device, dtype, value):
    weight = random_weight(device, dtype)
    weight[1, 0] = value
    for quantized in (fsc_ext.quantize_weight(weight, 3), fsc_ext.prox_quantize(weight, 3, 0.5)):
        assert (
            quantized[1].isnan().all() and not quantized[[0, *range(2, len(weight))]].isnan().any()
        )


def test_opcheck(device):
    weight = random_weight(device).requires_grad_()
    torch.library.opcheck(torch.ops.fsc_ext.quantize_weight, (weight, 2, True))
    torch.library.opcheck(torch.ops.fsc_ext.prox_quantize, (weight.detach(), 2, 0.5, False))


def test_compiles(device):
    weight = random_weight(device)
    quantize = compiled(fsc_ext.quantize_weight)
    assert torch.equal(quantize(weight, 2), fsc_ext.quantize_weight(weight, 2))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("quantize_weight", (torch.ones(2, 2), 0), r"bits must be in \[1, 8\], got 0"),
        ("quantize_weight", (torch.ones(2, 2), 9), r"bits must be in \[1, 8\], got 9"),
        ("quantize_weight", (torch.ones(2, 2).long(), 2), "weight must be float32 or float64"),
        ("quantize_weight", (torch.tensor(1.0), 2), "weight must have output channels"),
        ("prox_quantize", (torch.ones(2, 2), 2, -1.0), "strength must be finite and at least 0"),
        ("prox_quantize", (torch.ones(2, requires_grad=True), 2, 1.0), "weight must not require"),
    ],
)
def test_errors(device, name, arguments, message):
    weight, *others = arguments
    with pytest.raises(RuntimeError, match=f"{name}: {message}"):
        getattr(fsc_ext, name)(weight.to(device), *others)
