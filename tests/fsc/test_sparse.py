"""Unstructured pruning: which weights stay, their values, and the methods that take it."""

import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import schemes
from fsc.layers.moments import Columns, Moments
from fsc.layers.objectives import Soft
from fsc.schemes import SparseScheme
from fsc.solvers import Accelerated, ClosedForm, Proximal, sparse
from fsc.solvers.closed_form import damping_strength
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import Quadratic

PATCH = Patch(3, (2, 2), bias=True)
PRUNABLE = 12
DAMPING = 0.5


def _quadratic(factored: bool = False) -> tuple[Quadratic, Tensor]:
    torch.manual_seed(3)
    teacher = torch.randn(3, 3, 5, 5, dtype=torch.float64)
    student = teacher + 0.3 * torch.randn_like(teacher)
    anchor = torch.randn(4, PATCH.dim, dtype=torch.float64)
    statistics = (Columns if factored else Moments)(PATCH)
    statistics.accumulate(teacher, student)
    return statistics.quadratic(Soft(), anchor), anchor


def _damped(quadratic: Quadratic, weight: Tensor, anchor: Tensor) -> Tensor:
    delta = damping_strength(quadratic, DAMPING)
    return quadratic.row_losses(weight) + delta * (weight - anchor).square().sum(1)  # [C_out]


@pytest.mark.parametrize("factored", [False, True], ids=["gram", "factored"])
def test_the_solution_on_a_mask_is_a_stationary_point(factored: bool) -> None:
    quadratic, anchor = _quadratic(factored)
    mask = torch.rand(anchor.shape) < 0.5
    weight = sparse.solve_on_mask(quadratic, anchor, mask, DAMPING).requires_grad_()
    assert torch.equal(weight != 0, mask)
    (gradient,) = torch.autograd.grad(_damped(quadratic, weight, anchor).sum(), weight)
    assert gradient[mask].abs().max() < 1e-9 * gradient[~mask].abs().max()


@pytest.mark.parametrize("factored", [False, True], ids=["gram", "factored"])
def test_the_cheapest_weight_of_the_layer_goes_first(factored: bool) -> None:
    quadratic, anchor = _quadratic(factored)
    whole = torch.ones(anchor.shape, dtype=torch.bool)
    costs = torch.empty(4, PRUNABLE)
    for row in range(4):
        for column in range(PRUNABLE):
            mask = whole.clone()
            mask[row, column] = False
            weight = sparse.solve_on_mask(quadratic, anchor, mask, DAMPING)
            costs[row, column] = _damped(quadratic, weight, anchor).sum()
    kept = sparse.choose_weights(quadratic, anchor, PRUNABLE, 47, "obs", DAMPING)
    assert (~kept).sum() == 1
    assert not kept.flatten()[int(costs.argmin()) // 12 * 13 + int(costs.argmin()) % 12]


@pytest.mark.parametrize("count", [1, 10, 40, 48])
@pytest.mark.parametrize("selection", ["obs", "norm"])
def test_the_mask_keeps_the_count_and_the_bias(count: int, selection: str) -> None:
    quadratic, anchor = _quadratic()
    mask = sparse.choose_weights(quadratic, anchor, PRUNABLE, count, selection, DAMPING)
    assert mask[:, :PRUNABLE].sum() == count
    assert mask[:, PRUNABLE].all()


def test_candidates_of_long_rows_leave_nearly_the_same_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quadratic, anchor = _quadratic()

    def loss(count: int) -> float:
        mask = sparse.choose_weights(quadratic, anchor, PRUNABLE, count, "obs", DAMPING)
        assert mask[:, :PRUNABLE].sum() == count
        weight = sparse.solve_on_mask(quadratic, anchor, mask, DAMPING)
        return float(_damped(quadratic, weight, anchor).sum())

    exact = [loss(8), loss(30)]
    monkeypatch.setattr(sparse, "MAX_CANDIDATES", 8)
    # 8 of 48 weights are found among 8 candidates a row, 30 by their scores at once.
    for found, best in zip([loss(8), loss(30)], exact, strict=True):
        assert best <= found * (1 + 1e-9)
        assert found < 1.5 * best


def test_counts_out_of_range_are_refused() -> None:
    quadratic, anchor = _quadratic()
    with pytest.raises(ValueError, match=r"count must be in \[1, 48\], got 49"):
        sparse.choose_weights(quadratic, anchor, PRUNABLE, 49, "obs", DAMPING)


METHODS = [
    fsc.CrossDistillation(),
    fsc.CrossDistillation(fsc.Convex(), ClosedForm("norm")),
    fsc.CrossDistillation(solver=Proximal(steps=30)),
    fsc.CrossDistillation(solver=Proximal(steps=30), activation="relu"),
    fsc.L1Norm(),
]


@pytest.mark.parametrize("method", METHODS, ids=["obs", "norm", "steps", "relu steps", "l1"])
def test_methods_keep_exactly_the_weights_of_the_scheme(method: fsc.methods.Method) -> None:
    teacher, images = chain(), torch.randn(8, 3, 8, 8)
    scheme = schemes.sparse(teacher, 0.7, ignored=["conv2"])
    result = fsc.compress(teacher, images, method=method, scheme=scheme)
    for name, module in result.student.named_modules():
        if isinstance(module, nn.Conv2d):
            before = teacher.get_submodule(name).weight
            assert module.weight.shape == before.shape
            assert module.weight.count_nonzero() == scheme.kept.get(name, before.numel())
    assert result.report.kept == {}
    assert result.report.nonzero < result.report.parameters


def test_cross_distillation_beats_magnitude_pruning() -> None:
    teacher, images = chain(), torch.randn(32, 3, 8, 8)
    scheme = schemes.sparse(teacher, 0.7)
    gaps = []
    for method in (fsc.CrossDistillation(), fsc.L1Norm()):
        student = fsc.compress(teacher, images, method=method, scheme=scheme).student
        with torch.no_grad():
            gaps.append(float((teacher(images) - student(images)).square().sum()))
    assert gaps[0] < 0.5 * gaps[1]


@pytest.mark.parametrize("method", [fsc.FSKD(), fsc.MiR("before", steps=1)], ids=["fskd", "mir"])
def test_methods_that_remove_channels_refuse_single_weights(method: fsc.methods.Method) -> None:
    scheme = SparseScheme("mine", {"conv1": 3})
    with pytest.raises(ValueError, match="scheme must be structured for (FSKD|MiR), got 'mine'"):
        fsc.compress(chain(), torch.randn(2, 3, 8, 8), method=method, scheme=scheme)


def test_conjugate_gradients_refuse_single_weights() -> None:
    with pytest.raises(ValueError, match="solver must be ClosedForm or Proximal for a scheme of"):
        fsc.compress(
            chain(),
            torch.randn(2, 3, 8, 8),
            method=fsc.CrossDistillation(solver=Accelerated(), activation="relu"),
            scheme=SparseScheme("mine", {"conv1": 3}),
        )


def test_behind_the_relu_single_weights_are_found_by_steps() -> None:
    scheme = SparseScheme("mine", {"conv2": 90})
    images = torch.randn(4, 3, 8, 8)
    found = [
        fsc.compress(
            chain_of_seed(), images, method=fsc.CrossDistillation(solver=s, activation="relu"),
            scheme=scheme,
        ).student.conv2.weight
        for s in (None, Proximal())
    ]  # fmt: skip
    assert torch.equal(*found) and found[0].count_nonzero() == 90


def chain_of_seed() -> nn.Module:
    torch.manual_seed(3)
    return chain().eval()
