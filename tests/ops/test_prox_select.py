"""The largest of more values than one block works on alone, and groups of any size."""

import pytest
import torch

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import FLOATING, devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
every_dtype = pytest.mark.parametrize("dtype", FLOATING, ids=str)
# As in test_prox.py.
GROUP_TOLERANCE = {
    torch.float32: {"rtol": 1e-6, "atol": 1e-7},
    torch.float64: {"rtol": 1e-13, "atol": 1e-14},
}


@every_dtype
@pytest.mark.parametrize("values", ["drawn", "ties", "equal"])
def test_keep_topk_of_many(device, dtype, values):
    # A size that blocks do not share evenly.
    weight = torch.randn(41, 419, dtype=torch.float64, device=device)
    weight = {"drawn": weight, "ties": weight.mul(2).round(), "equal": 0 * weight - 1}[values]
    weight = weight.to(dtype)
    for count in (0, 1, 8000, weight.numel() - 1, weight.numel()):
        expected, expected_mask = reference.keep_topk(weight, count)
        changed = weight.clone()
        mask = fsc_ext.keep_topk_(changed, count)
        assert torch.equal(changed, expected) and torch.equal(mask, expected_mask)


@every_dtype
@pytest.mark.parametrize(("shape", "dim"), [((2, 11000), 0), ((900, 2, 3, 3), 1), ((3, 2, 5), -1)])
def test_groups_of_any_size(device, dtype, shape, dim):
    # Beyond what a block keeps of a group, and rows shorter than the block.
    weight = torch.randn(shape, dtype=dtype, device=device)
    expected = reference.prox_group_l2(weight, 2.0, dim)
    torch.testing.assert_close(
        fsc_ext.prox_group_l2(weight, 2.0, dim), expected, **GROUP_TOLERANCE[dtype]
    )


@pytest.mark.parametrize("penalty", ["topk", "soft_topk"])
def test_steps(device, penalty):
    weight = torch.randn(4, 4243, dtype=torch.float64, device=device)
    target = torch.randn_like(weight)
    rates = torch.full((6,), 0.05, dtype=torch.float64)
    amounts = torch.tensor([16972.0, 16000, 12000, 1, 0, 3], dtype=torch.float64)
    settings = {"penalty": penalty, "dim": 0}
    expected, _ = reference.minimise(
        weight, lambda w, number: (w - target).square().sum() / 2, rates, amounts, **settings
    )
    found, moments = weight.clone(), torch.zeros(2, *weight.shape, dtype=torch.float64).to(device)
    mask = torch.ones_like(found, dtype=torch.bool) if penalty == "topk" else None
    for number, amount in enumerate(amounts.tolist(), start=1):
        fsc_ext.adam_prox_(
            found, found - target, *moments, number, lr=0.05, amount=amount, mask=mask, **settings
        )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("penalty", ["topk", "soft_topk"])
def test_in_a_loop(device, penalty):
    weight, target = torch.randn(2, 17001, 1, dtype=torch.float64, device=device)
    rates = torch.full((4,), 0.1, dtype=torch.float64)
    amounts = torch.tensor([17001.0, 9000, 9000, 1], dtype=torch.float64)
    hessian = torch.ones(1, 1, dtype=torch.float64, device=device)
    expected, _ = reference.minimise(
        weight,
        lambda w, number: w.square().sum() - 2 * (w * target).sum(),
        rates,
        amounts,
        penalty=penalty,
        dim=0,
    )
    fsc_ext.solve_quadratic_(weight, hessian, target, rates, amounts, penalty=penalty, dim=0)
    torch.testing.assert_close(weight, expected, rtol=1e-10, atol=1e-12)
