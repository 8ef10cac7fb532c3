"""Schemes of single weights and of few bits on depthwise and grouped convolutions."""

import branching
import pytest
import torch
from kinds import every_kind
from torch import Tensor, nn

import fsc
import fsc_ext
from fsc import schemes
from fsc.layers.grouped_moments import GroupedMoments
from fsc.schemes import QuantizedScheme, SparseScheme
from fsc.solvers import ClosedForm, Proximal, blocks, sparse
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import GramQuadratic
from fsc.solvers.quantization import pass_errors_on

GROUPED = ("wide", "grouped", "depthwise")


def _gap(teacher: nn.Module, student: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        return float((teacher(images) - student(images)).square().sum())


@pytest.fixture
def problem() -> tuple[blocks.BlockQuadratic, Tensor]:
    """The objective of a layer of three groups, and the teacher's weight [3, 2, 19]."""
    torch.manual_seed(0)
    patch = Patch(2, (3, 3), padding=(1, 1), bias=True)
    teacher = torch.randn(4, 6, 6, 6, dtype=torch.float64)
    weight = torch.randn(3, 2, patch.dim, dtype=torch.float64)
    moments = GroupedMoments(patch, 3)
    moments.accumulate(teacher, teacher + 0.2 * torch.randn_like(teacher))
    return moments.quadratic(fsc.Soft(), weight), weight


def _alone(quadratic: blocks.BlockQuadratic, group: int) -> GramQuadratic:
    parts = (quadratic.hessian[group], quadratic.target[group], quadratic.constant[group])
    return GramQuadratic(*parts, quadratic.num_images)


def test_the_solution_of_every_row_is_that_of_its_group_alone(
    problem: tuple[blocks.BlockQuadratic, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    quadratic, teacher = problem
    mask = torch.rand(teacher.shape) < 0.6
    found = quadratic.minimum_near(teacher, mask, 2.0)
    for group in range(3):
        alone = sparse.solve_on_mask(_alone(quadratic, group), teacher[group], mask[group], 2.0)
        torch.testing.assert_close(found[group], alone)
    monkeypatch.setattr(blocks, "_CHUNK", 1)
    torch.testing.assert_close(quadratic.minimum_near(teacher, mask, 2.0), found)
    with pytest.raises(ValueError, match="damping must be finite and above 0, got 0"):
        quadratic.minimum_near(teacher, mask, 0)


@pytest.mark.parametrize("selection", ["obs", "norm"])
@pytest.mark.parametrize("count", [1, 20, 107, 108])
def test_weights_are_chosen_over_all_groups(
    problem: tuple[blocks.BlockQuadratic, Tensor], selection: str, count: int
) -> None:
    quadratic, teacher = problem
    mask = blocks.choose_weights(quadratic, teacher, 18, count, selection, 0.5)
    assert mask[..., :18].sum() == count and mask[..., 18].all()
    if selection == "obs" and count == 107:
        # The one weight that went is the cheapest of all.
        rises = []
        for gone in range(108):
            left = torch.ones_like(mask)
            left.view(-1, 19)[gone // 18, gone % 18] = False
            weight = quadratic.minimum_near(teacher, left, 0.5)
            pull = quadratic.damping_strength(0.5)[:, None, None] * (weight - teacher).square()
            rises.append(quadratic.loss(weight) * quadratic.num_images + float(pull.sum()))
        cheapest = min(range(108), key=rises.__getitem__)
        assert not mask.view(-1, 19)[cheapest // 18, cheapest % 18]


def test_long_rows_are_chosen_by_what_each_weight_costs_alone(
    problem: tuple[blocks.BlockQuadratic, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    quadratic, teacher = problem
    monkeypatch.setattr(blocks, "MAX_CANDIDATES", 8)
    mask = blocks.choose_weights(quadratic, teacher, 18, 40, "obs", 0.5)
    assert mask[..., :18].sum() == 40
    with pytest.raises(ValueError, match=r"count must be in \[1, 108\], got 0"):
        blocks.choose_weights(quadratic, teacher, 18, 0, "obs", 0.5)


METHODS = [
    fsc.CrossDistillation(),
    fsc.CrossDistillation(fsc.Estimation(), ClosedForm("norm")),
    fsc.CrossDistillation(solver=Proximal(steps=30)),
    fsc.CrossDistillation(solver=Proximal(steps=30), activation="relu"),
]


@pytest.mark.parametrize("ratio", [0.5, 0.95])
@pytest.mark.parametrize("method", METHODS, ids=["obs", "norm", "steps", "relu steps"])
def test_grouped_convolutions_keep_the_weights_of_the_scheme(
    method: fsc.methods.Method, ratio: float
) -> None:
    teacher, images = every_kind(), torch.randn(6, 3, 8, 8)
    scheme = schemes.sparse(teacher, ratio)
    result = fsc.compress(teacher, images, method=method, scheme=scheme)
    for name in ("first", *GROUPED):
        weight = result.student.get_submodule(name).weight
        assert weight.count_nonzero() == scheme.kept[name], name
    assert result.report.left == {} and result.report.warnings == []


def test_given_weights_of_a_grouped_convolution_stay() -> None:
    teacher, images = every_kind(), torch.randn(6, 3, 8, 8)
    support = {"grouped": [5, 0, 100], "depthwise": [1, 10, 107]}
    scheme = SparseScheme("mine", {name: len(given) for name, given in support.items()})
    result = fsc.compress(
        teacher, images, method=fsc.CrossDistillation(support=support), scheme=scheme
    )
    for name, given in support.items():
        weight = result.student.get_submodule(name).weight.flatten()
        assert weight.nonzero().flatten().tolist() == sorted(given)


def test_cross_distillation_of_grouped_layers_beats_magnitudes() -> None:
    teacher, images = every_kind(), torch.randn(32, 3, 8, 8)
    scheme = schemes.sparse(teacher, {name: 0.6 for name in GROUPED})
    gaps = [
        _gap(teacher, fsc.compress(teacher, images, method=each, scheme=scheme).student, images)
        for each in (fsc.CrossDistillation(), fsc.L1Norm())
    ]
    assert gaps[0] < 0.5 * gaps[1]


@pytest.mark.parametrize("activation_bits", [4, 32])
@pytest.mark.parametrize(
    "solver",
    [None, ClosedForm("norm"), Proximal(steps=20), Proximal(steps=20, projection="soft")],
    ids=["closed form", "norm", "straight through", "ProxQuant"],
)
def test_grouped_convolutions_have_few_values(
    solver: ClosedForm | Proximal | None, activation_bits: int
) -> None:
    teacher, images = every_kind(), torch.randn(6, 3, 8, 8)
    scheme = schemes.quantized(teacher, 2, activation_bits=activation_bits)
    method = fsc.CrossDistillation(solver=solver)
    student = fsc.compress(teacher, images, method=method, scheme=scheme).student
    for name in scheme.bits:
        weight = student.get_submodule(name).weight.detach()
        assert max(len(row.unique()) for row in weight.flatten(1)) <= 4


def test_errors_are_passed_on_within_every_group() -> None:
    teacher, images = every_kind(), torch.randn(32, 3, 8, 8)
    scheme = QuantizedScheme("mine", dict.fromkeys(GROUPED, 3))
    errors = []
    for selection in ("obs", "norm"):
        method = fsc.CrossDistillation(fsc.Estimation(), ClosedForm(selection), recalibrate=False)
        report = fsc.compress(teacher, images, method=method, scheme=scheme).report
        errors.append({layer.name: layer.error for layer in report.layers})
    assert errors[0]["wide"] < 0.9 * errors[1]["wide"]


def test_one_group_is_rounded_as_the_layer_is(
    problem: tuple[blocks.BlockQuadratic, Tensor],
) -> None:
    quadratic, teacher = problem
    every = torch.ones(3, 1, 19, dtype=torch.bool)
    weight = quadratic.minimum_near(teacher, every, 1.0)
    damped = quadratic.damped(1.0)
    together = pass_errors_on(weight, damped, 18, 2)
    for group in range(3):
        alone = pass_errors_on(weight[group], damped[group], 18, 2)
        torch.testing.assert_close(together[group], alone)
    assert not torch.equal(
        together[..., :18].flatten(0, 1), fsc_ext.quantize_weight(weight[..., :18].flatten(0, 1), 2)
    )


@pytest.mark.parametrize("make", [schemes.sparse, schemes.quantized])
def test_layers_that_cannot_be_solved_stay_whole_and_are_named(make) -> None:
    teacher, images = branching.branching(branching.Twice), torch.randn(6, 3, 12, 12)
    scheme = make(teacher, 0.5 if make is schemes.sparse else 2)
    with pytest.warns(fsc.CompressionWarning, match="4 layers, 1 of which stay whole: .*'shared'"):
        result = fsc.compress(teacher, images, method=fsc.CrossDistillation(), scheme=scheme)
    assert result.report.left == {
        "shared": "layer 'shared' is called more than once; give each call a copy of it"
    }
    assert torch.equal(result.student.shared.weight, teacher.shared.weight)
    assert not torch.equal(result.student.last.weight, teacher.last.weight)


def test_a_scheme_of_nothing_that_can_be_solved_is_refused() -> None:
    teacher, images = branching.branching(branching.Twice), torch.randn(6, 3, 12, 12)
    scheme = SparseScheme("mine", {"shared": 3})
    with pytest.raises(ValueError, match="scheme must change a layer that can be solved, got 1 .*"):
        fsc.compress(teacher, images, method=fsc.CrossDistillation(), scheme=scheme)
