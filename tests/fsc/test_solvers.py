from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fsc_ext
from fsc import models
from fsc.images import data
from fsc.layers.layer_problem import Plan, Pose
from fsc.layers.moments import Columns, Moments
from fsc.layers.objectives import Convex, Estimation, Objective, Soft
from fsc.layers.proximal_problem import ProximalProblem
from fsc.networks.features import truncate
from fsc.networks.pretrained import load_pretrained
from fsc.networks.tracing import trace
from fsc.solvers.closed_form import choose_channels, rows_of, solve_on_rows
from fsc.solvers.patch import Patch
from fsc.solvers.proximal import Proximal, iterate
from fsc.solvers.quadratic import FactoredQuadratic, GramQuadratic

PATCH = Patch(6, (3, 3), padding=(1, 1), bias=True)


def _quadratics(images: int = 2) -> tuple[GramQuadratic, FactoredQuadratic, Tensor]:
    """One layer's objective in both forms; few pixels, so that damping matters."""
    torch.manual_seed(1)
    teacher = torch.randn(images, 6, 4, 4, dtype=torch.float64)
    student = teacher + 0.3 * torch.randn_like(teacher)
    weight = torch.randn(5, PATCH.dim, dtype=torch.float64)
    moments, columns = Moments(PATCH), Columns(PATCH)
    moments.accumulate(teacher, student)
    columns.accumulate(teacher, student)
    return (
        moments.quadratic(Convex(0.7), weight),
        columns.quadratic(Convex(0.7), weight),
        weight,
    )


def _damped(quadratic: GramQuadratic, weight: Tensor, anchor: Tensor, damping: float) -> Tensor:
    delta = damping * quadratic.mean_curvature() / quadratic.num_images
    return quadratic.row_losses(weight).sum() + delta * (weight - anchor).square().sum()


@pytest.mark.parametrize("form", [0, 1], ids=["gram", "factored"])
def test_the_solution_on_rows_is_a_stationary_point(form: int) -> None:
    gram, *_, anchor = _quadratics()
    rows = rows_of(torch.tensor([0, 2, 5]), PATCH)
    solved = solve_on_rows(_quadratics()[form], anchor, rows, 0.05)
    free = solved[:, rows].clone().requires_grad_()
    weight = torch.zeros_like(anchor).index_copy(1, rows, free)
    (gradient,) = torch.autograd.grad(_damped(gram, weight, anchor, 0.05), free)
    assert gradient.abs().max() < 1e-9 * gram.hessian.abs().max()
    others = torch.ones(PATCH.dim, dtype=torch.bool)
    others[rows] = False
    assert not solved[:, others].any()


def test_dense_and_factored_forms_choose_and_solve_alike() -> None:
    gram, factored, anchor = _quadratics()
    kept = choose_channels(gram, anchor, PATCH, 3, "obs", 0.1)
    assert torch.equal(choose_channels(factored, anchor, PATCH, 3, "obs", 0.1), kept)
    rows = rows_of(kept, PATCH)
    torch.testing.assert_close(
        solve_on_rows(factored, anchor, rows, 0.1), solve_on_rows(gram, anchor, rows, 0.1)
    )


def test_elimination_removes_what_costs_least_at_every_step() -> None:
    gram, _, anchor = _quadratics(images=8)
    alive = list(range(6))
    for count in (5, 4, 3):
        costs = {}
        for channel in alive:
            rest = torch.tensor([c for c in alive if c != channel])
            weight = solve_on_rows(gram, anchor, rows_of(rest, PATCH), 0.1)
            costs[channel] = float(_damped(gram, weight, anchor, 0.1))
        alive.remove(min(costs, key=lambda c: costs[c]))
        assert choose_channels(gram, anchor, PATCH, count, "obs", 0.1).tolist() == alive


def test_norm_selection_keeps_the_largest_slices() -> None:
    gram, _, anchor = _quadratics()
    slices = anchor[:, :-1].reshape(5, 6, 9).square().sum((0, 2))
    kept = choose_channels(gram, anchor, PATCH, 2, "norm", 0.1)
    assert set(kept.tolist()) == set(slices.topk(2).indices.tolist())


def test_dead_inputs_leave_the_teachers_weight() -> None:
    moments = Moments(PATCH)
    moments.accumulate(*(torch.zeros(1, 6, 4, 4, dtype=torch.float64),) * 2)
    anchor = torch.randn(5, PATCH.dim, dtype=torch.float64)
    weight = solve_on_rows(
        moments.quadratic(Estimation(), anchor), anchor, torch.arange(PATCH.dim), 0.1
    )
    torch.testing.assert_close(weight, anchor)


def test_arguments_out_of_range_are_refused() -> None:
    gram, _, anchor = _quadratics()
    with pytest.raises(ValueError, match=r"count must be in \[1, 6\], got 0"):
        choose_channels(gram, anchor, PATCH, 0, "obs", 0.1)
    with pytest.raises(ValueError, match="selection must be 'obs' or 'norm', got 'l0'"):
        choose_channels(gram, anchor, PATCH, 2, "l0", 0.1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="damping must be finite and above 0, got 0"):
        solve_on_rows(gram, anchor, torch.arange(3), 0)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        Proximal(steps=0)
    with pytest.raises(ValueError, match="learning_rate must be finite and above 0, got -1"):
        Proximal(learning_rate=-1)
    with pytest.raises(ValueError, match=r"ramp must be in \[0, 1\], got 2"):
        Proximal(ramp=2)
    with pytest.raises(ValueError, match=r"decay must be in \(0, 1\], got 0"):
        Proximal(decay=0)
    with pytest.raises(ValueError, match="projection must be hard or soft, got 'firm'"):
        Proximal(projection="firm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="optimizer must be adam or sgd, got 'lbfgs'"):
        Proximal(optimizer="lbfgs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1"):
        Proximal(momentum=1)
    with pytest.raises(ValueError, match="batch_size must be at least 0, got -1"):
        Proximal(batch_size=-1)


def test_the_schedule_falls_linearly_then_stays() -> None:
    schedule = Proximal(steps=3000)
    kept, rates = schedule.kept(64, 32), schedule.learning_rates()
    assert [int(kept[step - 1]) for step in (1, 500, 999, 1000, 3000)] == [64, 48, 33, 32, 32]
    assert rates[999] == 1e-3
    assert rates[1000] == pytest.approx(1e-4)
    assert Proximal(steps=4, ramp=0).kept(64, 32).tolist() == [32] * 4


PROXIMAL = [
    Proximal(steps=150, learning_rate=0.01),
    Proximal(steps=150, learning_rate=0.01, projection="soft"),
    Proximal(steps=150, learning_rate=0.01, optimizer="sgd", momentum=0.9),
]


@pytest.mark.parametrize("solver", PROXIMAL, ids=["hard", "soft", "sgd"])
@pytest.mark.parametrize(("count", "dim"), [(4, 1), (2, 0), (90, None), (None, 1)])
def test_iterations_keep_the_count_and_lower_the_loss(
    solver: Proximal, count: int | None, dim: int | None
) -> None:
    gram, _, anchor = _quadratics()
    hessian = gram.hessian[:-1, :-1] / gram.num_images
    weight = anchor[:, :-1].reshape(5, 6, 3, 3).clone()
    run = partial(_on_quadratic, hessian=hessian, target=weight.flatten(1) @ hessian)
    naive, steps = weight.clone(), []
    mask = iterate(solver, weight, run, count, dim, steps.append)
    total = weight.numel() if dim is None else weight.shape[dim]
    assert int(mask.sum()) == (total if count is None else count)
    wide = mask if dim is None else mask.view([-1 if d == dim else 1 for d in range(4)])
    assert not weight[~wide.expand_as(weight)].any()
    assert steps == [100, 150]
    # Filters are independent: what stays cannot make up for what went.
    if count is not None and dim != 0 and solver.projection == "hard":
        assert _loss(weight - naive, hessian) < _loss(naive * wide - naive, hessian)


def _on_quadratic(
    weight: Tensor, *schedule: Tensor, hessian: Tensor, target: Tensor, **settings: Any
) -> Tensor:
    return fsc_ext.solve_quadratic_(weight, hessian, target, *schedule, **settings)


def _loss(difference: Tensor, hessian: Tensor) -> float:
    rows = difference.flatten(1)
    return float((rows @ hessian * rows).sum())


def _layer_inputs(root: Path, name: str) -> tuple[nn.Conv2d, Tensor, Tensor]:
    """A layer of the real ResNet-20 with the inputs that ten images and noisy ones give it."""
    model = models.build("resnet20")
    load_pretrained(model, root / "checkpoints" / "cifar10_resnet20_akamaster.pt")
    split = data.load("cifar10", "train", root)
    images = data.to_tensor(split.images[::500], *models.normalization("resnet20"))
    graph = trace(model)
    node = next(n for n in graph.nodes if n.target == name).all_input_nodes[0]
    body = truncate(model, graph, node)
    with torch.no_grad():
        clean, noisy = body(images), body(images + 0.2 * torch.randn_like(images))
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    return layer.double().requires_grad_(False), clean.double(), noisy.double()


@pytest.mark.parametrize(
    ("name", "objective"), [("layer2.1.conv2", Estimation()), ("layer3.1.conv2", Soft())], ids=str
)
def test_released_code_runs_in_moments_to_the_same_loss(
    data_root: Path, name: str, objective: Objective
) -> None:
    """600 Adam steps with hard projections, on the inputs and on their moments.

    The two differ by rounding only, in float64; 1e-4 leaves room for a tie between two channels.
    The gradient of the convex loss is zero at the teacher's weight: Adam would start on rounding.
    """
    layer, teacher, student = _layer_inputs(data_root, name)
    plan = Plan(torch.arange(layer.in_channels), num_channels=layer.in_channels // 2)
    found = []
    for batch_size in (0, len(teacher)):  # Moments; inputs, all in one batch.
        pose = Pose(layer, objective, "none", teacher[:, 0].numel())
        problem = ProximalProblem(pose, Proximal(600, batch_size=batch_size), None)
        problem.accumulate(teacher[:4], student[:4], None)
        problem.accumulate(teacher[4:], student[4:], None)
        found.append(problem.solve(plan))
    assert torch.equal(found[0].channels, found[1].channels)
    for field in ("error_before", "error", "error_of_zero"):
        assert getattr(found[0], field) == pytest.approx(getattr(found[1], field), rel=1e-4)
    assert found[0].error < found[0].error_before
