"""The order of optimal brain surgery against its reference and against trying every removal."""

import pytest
import torch

import fsc_ext
from fsc_ext import reference
from fsc_ext.testing import compiled, devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)


def problem(device, rows=4, dim=12, shared=True):
    """Minimisers [rows, dim] and inverse Hessians of random quadratics."""
    factor = torch.randn(1 if shared else rows, dim, 3 * dim, dtype=torch.float64, device=device)
    hessian = factor @ factor.transpose(1, 2)
    return torch.randn(rows, dim, dtype=torch.float64, device=device), torch.linalg.inv(hessian)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("removable", [0, 1, 7, 12])
def test_values(device, shared, removable):
    weight, inverse = problem(device, shared=shared)
    order, rises = fsc_ext.elimination_order(weight, inverse, removable)
    expected, costs = reference.elimination_order(weight, inverse, removable)
    assert torch.equal(order, expected)
    torch.testing.assert_close(rises, costs, rtol=1e-9, atol=1e-12)


def test_costs_are_those_of_the_quadratic(device):
    """What the order says is lost is what the best weight without the removed ones loses."""
    weight, inverse = problem(device, rows=1)
    hessian = torch.linalg.inv(inverse[0])
    order, rises = fsc_ext.elimination_order(weight, inverse, 12)
    for count in range(1, 12):
        left = torch.tensor(sorted(set(range(12)) - set(order[0, :count].tolist())))
        best = torch.zeros_like(weight[0])
        best[left] = torch.linalg.solve(hessian[left][:, left], (hessian @ weight[0])[left])
        difference = best - weight[0]
        torch.testing.assert_close(rises[0, :count].sum(), difference @ hessian @ difference)


def test_first_of_equals_goes_first(device):
    weight = torch.ones(1, 5, dtype=torch.float64, device=device)
    order, _ = fsc_ext.elimination_order(weight, torch.eye(5, device=device).double()[None], 5)
    assert order.tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize(("rows", "dim"), [(0, 3), (2, 0)])
def test_empty(device, rows, dim):
    order, rises = fsc_ext.elimination_order(
        torch.empty(rows, dim, dtype=torch.float64, device=device),
        torch.empty(1, dim, dim, dtype=torch.float64, device=device),
        dim,
    )
    assert order.shape == rises.shape == (rows, dim)


def test_strided(device):
    weight, inverse = problem(device, shared=False)
    expected = fsc_ext.elimination_order(weight, inverse, 12)
    found = fsc_ext.elimination_order(
        weight.T.contiguous().T, inverse.transpose(0, 2).contiguous().transpose(0, 2), 12
    )
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_same_bits_for_any_number_of_threads(device, one_thread):
    weight, inverse = problem(device, rows=9)
    alone = fsc_ext.elimination_order(weight, inverse, 12)
    torch.set_num_threads(2)
    assert all(map(torch.equal, fsc_ext.elimination_order(weight, inverse, 12), alone))


def test_opcheck(device):
    torch.library.opcheck(torch.ops.fsc_ext.elimination_order, (*problem(device), 5))


def test_compiles(device):
    weight, inverse = problem(device)
    expected = fsc_ext.elimination_order(weight, inverse, 6)
    assert all(map(torch.equal, compiled(fsc_ext.elimination_order)(weight, inverse, 6), expected))


def test_has_no_gradient(device):
    weight, inverse = problem(device)
    _, rises = fsc_ext.elimination_order(weight.requires_grad_(), inverse, 6)
    with pytest.raises(RuntimeError, match="elimination_order: an order has no gradient"):
        rises.sum().backward()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": torch.ones(3).double()}, r"weight must be \[B, dim\], got \[3\]"),
        ({"weight": torch.ones(2, 3)}, "weight must be float64, got Float"),
        ({"inverse": torch.ones(1, 3, 3)}, "inverse must have the dtype of weight"),
        ({"inverse": torch.ones(3, 3).double()}, r"inverse must be \[B or 1, dim, dim\]"),
        ({"inverse": torch.ones(3, 3, 3).double()}, r"inverse must be \[2 or 1, 3, 3\], got"),
        ({"removable": 4}, r"removable must be in \[0, 3\], got 4"),
        ({"removable": -1}, r"removable must be in \[0, 3\], got -1"),
    ],
)
def test_errors(device, changes, message):
    weight, inverse = torch.ones(2, 3).double(), torch.eye(3).double()[None]
    arguments = {"weight": weight, "inverse": inverse, "removable": 2} | changes
    with pytest.raises(RuntimeError, match="elimination_order: " + message):
        fsc_ext.elimination_order(**arguments)
