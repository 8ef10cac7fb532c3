from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from fsc import checkpoint, data, models, tracing
from fsc.moments import Columns, Moments
from fsc.objectives import Convex, Estimation, Soft
from fsc.patch import Patch
from fsc.solvers.closed_form import choose_channels, rows_of, solve_on_rows
from fsc.solvers.proximal import Proximal, adam_topk, layer_loss
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


def test_the_schedule_falls_linearly_then_stays() -> None:
    schedule = Proximal(steps=3000)
    assert [schedule.kept(step, 64, 32) for step in (1, 500, 999, 1000, 3000)] == [
        64,
        48,
        33,
        32,
        32,
    ]
    assert schedule.learning_rate_at(1000) == 1e-3
    assert schedule.learning_rate_at(1001) == pytest.approx(1e-4)


def test_masked_groups_stay_zero_and_adam_lowers_the_loss() -> None:
    gram, _, anchor = _quadratics()
    flat = anchor[:, :-1]
    shape = (5, 6, 3, 3)

    def gradient(weight: Tensor) -> Tensor:
        full = torch.cat([weight.flatten(1), anchor[:, -1:]], 1)
        return gram.gradient(full)[:, :-1].reshape(shape)

    def loss(weight: Tensor) -> float:
        return gram.loss(torch.cat([weight.flatten(1), anchor[:, -1:]], 1))

    start = flat.reshape(shape)
    schedule = Proximal(steps=150, learning_rate=0.01)
    weight, mask = adam_topk(start, gradient, 4, 1, schedule)
    kept = mask.nonzero().flatten()
    naive = torch.zeros_like(start)
    naive[:, kept] = start[:, kept]
    assert len(kept) == 4
    assert weight.abs().sum((0, 2, 3)).nonzero().flatten().tolist() == kept.tolist()
    assert loss(weight) < loss(naive)


def _layer_inputs(root: Path, name: str) -> tuple[nn.Conv2d, Tensor, Tensor]:
    """A layer of the real ResNet-20 with the inputs that ten images and noisy ones give it."""
    model = models.build("resnet20")
    checkpoint.load_pretrained(model, root / "checkpoints" / "cifar10_resnet20_akamaster.pt")
    split = data.load("cifar10", "train", root)
    images = data.to_tensor(split.images[::500], *models.normalization("resnet20"))
    graph = tracing.trace(model)
    node = next(n for n in graph.nodes if n.target == name).all_input_nodes[0]
    body = tracing.truncate(model, graph, node)
    with torch.no_grad():
        clean, noisy = body(images), body(images + 0.2 * torch.randn_like(images))
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    return layer.double(), clean.double(), noisy.double()


@pytest.mark.parametrize("name", ["layer2.1.conv2", "layer3.1.conv2"])
def test_released_code_runs_in_moments_to_the_same_loss(data_root: Path, name: str) -> None:
    """3000 Adam steps with hard projections: once by autograd through convolutions, once on H, B.

    The two differ by rounding only, in float64; 1e-4 leaves room for a tie between two channels.
    """
    layer, teacher, student = _layer_inputs(data_root, name)
    objective, patch = Soft(), Patch.of(layer)
    moments = Moments(patch)
    moments.accumulate(teacher, student)
    weight = layer.weight.detach()
    quadratic = moments.quadratic(objective, weight.flatten(1))
    outputs = weight.shape[0] * teacher[0, 0].numel()
    x_t = 0.9 * teacher + 0.1 * student
    x_s = 0.5 * teacher + 0.5 * student
    target = nn.functional.conv2d(x_t, weight, padding=1)

    def direct(at: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = at.clone().requires_grad_()
            output = nn.functional.conv2d(x_s, leaf, padding=1)
            loss = (output - target).square().sum() / (len(target) * outputs)
            return torch.autograd.grad(loss, leaf)[0]

    def by_moments(at: Tensor) -> Tensor:
        return quadratic.gradient(at.flatten(1)).reshape(at.shape) / outputs

    schedule, count = Proximal(), layer.in_channels // 2
    plain, plain_kept = adam_topk(weight, direct, count, 1, schedule)
    fast, fast_kept = adam_topk(weight, by_moments, count, 1, schedule)
    assert torch.equal(fast_kept, plain_kept)
    expected = layer_loss(plain, (teacher, student), layer, None, objective, "none").item()
    assert quadratic.loss(fast.flatten(1)) == pytest.approx(expected, rel=1e-4)
