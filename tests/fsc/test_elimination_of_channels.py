"""Elimination of channels against solving anew on what remains, in either form of the inverse."""

import pytest
import torch
from torch import Tensor

from fsc.solvers.elimination import Elimination, eliminate_channels
from fsc.solvers.quadratic import FactoredQuadratic, GramQuadratic, Quadratic

CHANNELS, TAPS, OUTPUTS, DELTA = 40, 3, 5, 0.7
GROUPS = torch.arange(CHANNELS * TAPS).view(CHANNELS, TAPS)
# A last row, of the bias, never goes.
DIM = CHANNELS * TAPS + 1


def problem(form: str) -> tuple[Quadratic, Tensor]:
    """An objective and the weight that the damping pulls to."""
    columns = torch.randn(DIM, 60, dtype=torch.float64)
    target = torch.randn(OUTPUTS, 60, dtype=torch.float64)
    anchor = torch.randn(OUTPUTS, DIM, dtype=torch.float64)
    if form == "columns":
        return FactoredQuadratic(columns, target, 1), anchor
    constant = target.square().sum(1)
    return GramQuadratic(columns @ columns.T, target @ columns.T, constant, 1), anchor


@pytest.mark.parametrize("form", ["gram", "columns"])
@pytest.mark.parametrize("at_once", [1, 3])
def test_weight_is_the_minimum_on_what_remains(form: str, at_once: int) -> None:
    quadratic, anchor = problem(form)
    weight, inverse = quadratic.minimum_and_inverse(anchor, DELTA)
    torch.testing.assert_close(weight, quadratic.minimum_near(anchor, torch.arange(DIM), DELTA))
    elimination = Elimination(weight, inverse, GROUPS)
    order = torch.randperm(CHANNELS)
    for step in range(0, 36, at_once):
        elimination.remove(order[step : step + at_once])
        if step % 6:
            continue
        stays = torch.ones(DIM, dtype=torch.bool)
        stays[GROUPS[order[: step + at_once]]] = False
        rows = stays.nonzero().flatten()
        # Without the pull on what went: the damped quadratic on the rows that remain.
        expected = torch.zeros(DIM, OUTPUTS, dtype=torch.float64)
        system = quadratic.hessian_on(torch.arange(DIM)) + DELTA * torch.eye(DIM).double()
        right = weight @ system
        expected[rows] = torch.linalg.solve(system[rows][:, rows], right[:, rows].T)
        torch.testing.assert_close(elimination.weight, expected)


@pytest.mark.parametrize("form", ["gram", "columns"])
def test_the_cheapest_goes_as_trying_every_removal_says(form: str) -> None:
    quadratic, anchor = problem(form)
    weight, inverse = quadratic.minimum_and_inverse(anchor, DELTA)
    system = quadratic.hessian_on(torch.arange(DIM)) + DELTA * torch.eye(DIM).double()
    right = weight @ system
    kept = list(range(CHANNELS))

    def explained(channels: list[int]) -> float:
        rows = torch.cat([GROUPS[channels].flatten(), torch.tensor([DIM - 1])])
        best = torch.linalg.solve(system[rows][:, rows], right[:, rows].T)
        return float((best * right[:, rows].T).sum())

    while len(kept) > 8:
        # The one without which most is explained.
        gone = max(kept, key=lambda c: explained([k for k in kept if k != c]))
        kept.remove(gone)
    assert eliminate_channels(weight, inverse, GROUPS, 8) == kept


def test_losses_at_zero_are_those_of_a_zero_weight() -> None:
    for form in ("gram", "columns"):
        quadratic, anchor = problem(form)
        zero = torch.zeros_like(anchor)
        assert torch.equal(quadratic.losses_at_zero(), quadratic.row_losses(zero))
