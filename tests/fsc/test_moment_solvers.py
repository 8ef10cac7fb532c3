"""The baselines' solvers on moments: greedy, LASSO, scales and mixing, against plain ones."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc.layers.layer_problem import Plan, Pose, to_matrix
from fsc.layers.moments import Columns, Moments
from fsc.layers.posing import problem_of
from fsc.solvers.contributions import Contributions, contributions
from fsc.solvers.greedy import greedy_channels
from fsc.solvers.lasso import lasso, lasso_channels
from fsc.solvers.mixing import Mixing, channel_mixing
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import Quadratic
from fsc.solvers.reconstruction import Reconstruction, channel_scales

DOUBLE = {"dtype": torch.float64}
EVERY = torch.arange(6)


def _layer(images: int = 3) -> tuple[nn.Conv2d, Tensor, Tensor]:
    """A layer, and its inputs in both networks, [N, 6, 5, 5]."""
    torch.manual_seed(2)
    layer = nn.Conv2d(6, 4, 3, padding=1).double()
    teacher = torch.randn(images, 6, 5, 5, **DOUBLE).relu()
    return layer, teacher, (teacher + 0.3 * torch.randn_like(teacher)).relu()


def _explicit(layer: nn.Conv2d, teacher: Tensor, student: Tensor) -> tuple[Tensor, Tensor]:
    """Z [C_in, values] and Y [values], by running the layer."""
    with torch.no_grad():
        parts = [
            nn.functional.conv2d(student[:, c : c + 1], layer.weight[:, c : c + 1], padding=1)
            for c in range(6)
        ]
        target = nn.functional.conv2d(teacher, layer.weight, padding=1)
    return torch.stack(parts).flatten(1), target.flatten()


def _found(layer: nn.Conv2d, teacher: Tensor, student: Tensor, kind: type) -> Contributions:
    statistics = kind(Patch.of(layer))
    statistics.accumulate(teacher, student)
    quadratic: Quadratic = statistics.quadratic(fsc.Estimation(), to_matrix(layer))
    return contributions(quadratic, to_matrix(layer), statistics.patch)


@pytest.mark.parametrize("kind", [Moments, Columns])
def test_contributions_are_those_of_each_channel_run_alone(kind: type) -> None:
    layer, teacher, student = _layer()
    parts, target = _explicit(layer, teacher, student)
    found = _found(layer, teacher, student, kind)
    torch.testing.assert_close(found.gram, parts @ parts.T)
    torch.testing.assert_close(found.target, parts @ target)


def test_greedy_removes_what_adds_least_to_what_is_gone() -> None:
    parts, _ = _explicit(*_layer())
    gone: list[int] = []
    for count in (5, 4, 3, 2, 1):
        others = [c for c in range(6) if c not in gone]
        gone.append(min(others, key=lambda c: float(parts[[*gone, c]].sum(0).square().sum())))
        kept = greedy_channels(parts @ parts.T, count).tolist()
        assert kept == sorted(set(range(6)) - set(gone))


def _descent(gram: np.ndarray, target: np.ndarray, penalty: float) -> np.ndarray:
    """The LASSO by plain cyclic coordinate descent."""
    found = np.zeros_like(target)
    for _ in range(3000):
        for c in range(len(found)):
            alone = target[c] - gram[c] @ found + gram[c, c] * found[c]
            found[c] = np.sign(alone) * max(abs(alone) - penalty, 0) / gram[c, c]
    return found


@pytest.mark.parametrize("count", range(1, 7))
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_lasso_leaves_as_many_and_is_the_minimum(count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    common = generator.normal(size=40)  # channels are alike, so that some come and go
    parts = generator.normal(size=(6, 40)) + 2 * np.outer(generator.normal(size=6), common)
    target = parts.sum(0) + generator.normal(size=40)
    gram, right = parts @ parts.T, parts @ target
    found, penalty = lasso(gram, right, count)
    used = found != 0
    assert used.sum() == count and penalty > 0
    gradient = parts @ (target - found @ parts)  # of the smooth part, by the residual itself
    rounding = 1e-7 * np.abs(right).max()
    np.testing.assert_allclose(gradient[used], penalty * np.sign(found[used]), atol=rounding)
    assert (np.abs(gradient[~used]) <= penalty + rounding).all()
    np.testing.assert_allclose(found, _descent(gram, right, penalty), atol=1e-5)
    kept = lasso_channels(torch.from_numpy(gram), torch.from_numpy(right), count)
    assert kept.tolist() == used.nonzero()[0].tolist()


def test_many_alike_channels_end_and_meet_the_conditions() -> None:
    generator = np.random.default_rng(0)
    mixed = generator.normal(size=(80, 10)) @ generator.normal(size=(10, 300))
    parts = np.maximum(mixed + generator.normal(size=(80, 300)), 0)
    parts *= generator.normal(size=(80, 1))
    target = parts.sum(0)
    gram, right = parts @ parts.T, parts @ target
    for count in (1, 20, 40, 79, 80):
        found, penalty = lasso(gram, right, count)
        gradient, rounding = parts @ (target - found @ parts), 1e-6 * np.abs(right).max()
        assert np.count_nonzero(found) == count
        assert (np.abs(gradient - penalty * np.sign(found))[found != 0] <= rounding).all()
        assert (np.abs(gradient) <= penalty + rounding).all()


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_channels_that_are_zero_or_twice_there(count: int) -> None:
    torch.manual_seed(0)
    parts = torch.randn(4, 3, **DOUBLE)  # fewer values than channels
    parts[1] = 0
    parts[3] = parts[2]
    gram, target = parts @ parts.T, parts @ torch.randn(3, **DOUBLE)
    for kept in (greedy_channels(gram, count), lasso_channels(gram, target, count)):
        assert len(kept) == count and kept.tolist() == sorted(set(kept.tolist()))
        assert (1 in kept) == (count == 4)
    nothing = torch.zeros(4, 4, **DOUBLE), torch.zeros(4, **DOUBLE)
    assert len(greedy_channels(nothing[0], count)) == count
    assert lasso_channels(*nothing, count).tolist() == list(range(count))
    scales = channel_scales(Contributions(*nothing, 1), torch.arange(count), 1e-3)
    torch.testing.assert_close(scales, torch.ones(count, **DOUBLE))


@pytest.mark.parametrize("kept", [[0, 2, 5], [4]])
def test_scales_are_those_of_least_squares(kept: list[int]) -> None:
    layer, teacher, student = _layer()
    parts, target = _explicit(layer, teacher, student)
    found = _found(layer, teacher, student, Moments)
    scales = channel_scales(found, torch.tensor(kept), 1e-9)
    expected = torch.linalg.lstsq(parts[kept].T, target[:, None]).solution[:, 0]
    torch.testing.assert_close(scales, expected, rtol=1e-6, atol=1e-6)


def test_mixing_is_ridge_regression_on_the_activations() -> None:
    _, teacher, _ = _layer()
    pixels = teacher.transpose(0, 1).flatten(1)  # [6, pixels]
    kept = torch.tensor([1, 2, 4])
    mixing = channel_mixing(pixels @ pixels.T, kept, 1e-12)
    expected = torch.linalg.lstsq(pixels[kept].T, pixels.T).solution.T
    torch.testing.assert_close(mixing, expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(mixing[kept], torch.eye(3, **DOUBLE), rtol=1e-6, atol=1e-6)
    # A ridge is rows of its root below the activations, whose target is zero.
    ridge = 0.3 * float(pixels[kept].square().sum(1).mean())
    below = torch.cat([pixels[kept].T, ridge**0.5 * torch.eye(3, **DOUBLE)])
    wanted = torch.cat([pixels.T, torch.zeros(3, 6, **DOUBLE)])
    expected = torch.linalg.lstsq(below, wanted).solution.T
    torch.testing.assert_close(channel_mixing(pixels @ pixels.T, kept, 0.3), expected)
    assert not channel_mixing(torch.zeros(6, 6, **DOUBLE), kept, 0.3).any()
    assert channel_mixing(pixels @ pixels.T, kept[:0], 0.3).shape == (6, 0)


def _solved(solver: Reconstruction | Mixing, layer: nn.Conv2d, plan: Plan, images: int = 3):
    _, teacher, student = _layer(images)
    problem = problem_of(Pose(layer, fsc.Estimation(), "none", 25 * images), solver, None)
    for part in (slice(0, 1), slice(1, images)):
        problem.accumulate(teacher[part], student[part], None)
    with torch.no_grad():
        return problem.solve(plan), teacher, student


def _output(layer: nn.Conv2d, weight: Tensor, bias: Tensor, images: Tensor) -> Tensor:
    return nn.functional.conv2d(images, weight, bias, padding=1, groups=layer.groups)


@pytest.mark.parametrize("choice", ["greedy", "lasso"])
def test_scales_leave_more_than_weights_and_less_than_nothing(choice: str) -> None:
    layer, errors = _layer()[0], []
    for unknowns in ("scales", "weights"):
        solver = Reconstruction(choice, unknowns, 1e-6)
        solution, teacher, student = _solved(solver, layer, Plan(EVERY, num_channels=3))
        with torch.no_grad():
            wanted = _output(layer, layer.weight, layer.bias, teacher)
            found = _output(layer, solution.weight, solution.bias, student)
        assert solution.error == pytest.approx(float((wanted - found).square().sum()) / 3)
        assert solution.weight.any(0).flatten(1).any(1).nonzero().flatten().equal(solution.channels)
        errors.append((solution.error, solution.error_before))
    (scaled, before), (fitted, _) = errors
    assert fitted < scaled < before
    ratio = _solved(Reconstruction(choice, "scales", 1e-6), layer, Plan(EVERY, num_channels=3))[0]
    for channel in ratio.channels:
        quotient = (ratio.weight / layer.weight)[:, channel]
        torch.testing.assert_close(quotient, quotient.mean().expand_as(quotient))
    assert torch.equal(ratio.bias, layer.bias)


def test_a_mixed_layer_reads_what_all_channels_are_taken_from() -> None:
    layer, kept = _layer()[0], torch.tensor([0, 3, 4])
    solution, teacher, _ = _solved(Mixing(1e-3), layer, Plan(kept))
    pixels = teacher.transpose(0, 1).flatten(1)
    mixing = channel_mixing(pixels @ pixels.T, kept, 1e-3)
    taken = torch.einsum("ck,nkhw->nchw", mixing, teacher[:, kept])
    with torch.no_grad():
        wanted = _output(layer, layer.weight, layer.bias, taken)
        found = _output(layer, solution.weight, solution.bias, teacher)
    torch.testing.assert_close(found, wanted)
    assert not solution.weight[:, [1, 2, 5]].any()


@pytest.mark.parametrize("solver", [Mixing(1e-3), Reconstruction("greedy", "scales", 1e-3)])
def test_groups_are_layers_of_their_own(solver: Reconstruction | Mixing) -> None:
    torch.manual_seed(3)
    layer, kept = nn.Conv2d(6, 4, 3, padding=1, groups=2).double(), torch.tensor([0, 2, 3, 5])
    solution, teacher, student = _solved(solver, layer, Plan(kept))
    for group, own in itertools.product(range(2), [torch.tensor([0, 2])]):
        part = nn.Conv2d(3, 2, 3, padding=1).double()
        part.weight.data = layer.weight.data[2 * group : 2 * group + 2]
        part.bias.data = layer.bias.data[2 * group : 2 * group + 2]
        problem = problem_of(Pose(part, fsc.Estimation(), "none", 75), solver, None)
        inputs = slice(3 * group, 3 * group + 3)
        problem.accumulate(teacher[:, inputs], student[:, inputs], None)
        with torch.no_grad():
            expected = problem.solve(Plan(own)).weight
        torch.testing.assert_close(solution.weight[2 * group : 2 * group + 2], expected)


def test_what_cannot_be_solved_is_refused() -> None:
    with pytest.raises(ValueError, match="reconstruction must be 'scales' or 'weights', got 'all'"):
        Reconstruction("greedy", "all", 1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="damping must be finite and above 0, got 0"):
        Reconstruction("lasso", "weights", 0.0)
    with pytest.raises(ValueError, match="ridge must be finite and above 0, got inf"):
        Mixing(float("inf"))
