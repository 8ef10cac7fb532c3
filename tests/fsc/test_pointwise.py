"""The 1x1 convolution of FSKD: solved whatever the rank, absorbed by every kind of layer."""

import copy

import pytest
import torch
from torch import Tensor, nn

import fsc_ext
from fsc.layers.pointwise_layer import Absorbed, PointwiseProblem
from fsc.solvers.pointwise import pointwise

# Singular values below this share of the largest are rounding in float32, and gone in a Gram
# matrix of float64.
_RESOLUTION = 1e-6


def _problem(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Columns of a student and a teacher, [C, pixels] each, of any rank and condition."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    channels, pixels = draw(1, 25), draw(1, 80)
    rank = draw(0, min(channels, pixels) + 1)
    spread = 10.0 ** -(torch.rand(rank, generator=generator).double() * draw(0, 16))
    student = normal(channels, rank) * spread @ normal(rank, pixels)
    student *= 10.0 ** normal(channels, 1).mul(draw(0, 3))  # channels of unlike size
    student[torch.rand(channels, generator=generator) < 0.1] = 0
    student += draw(0, 2) * normal(channels, 1).abs() * bool(rank)  # a mean
    teacher = normal(channels, channels) @ student + draw(0, 2) * normal(channels, pixels)
    size = 10.0 ** draw(-6, 7)
    return size * student, size * teacher


def _rest(factor: Tensor, student: Tensor, teacher: Tensor) -> float:
    return float((factor @ student - teacher).square().sum())


def test_a_thousand_problems_of_any_rank_and_condition() -> None:
    """No NaN, and within 1 % of what the minimum-norm solution leaves."""
    generator = torch.Generator().manual_seed(0)
    for number in range(1000):
        student, teacher = _problem(generator)
        ones = student.new_ones(1, student.shape[1])
        rows = torch.cat([student, ones]), torch.cat([teacher, ones])
        energy = float(teacher.square().sum())
        least = teacher @ torch.linalg.pinv(student, rtol=_RESOLUTION)
        most = 1.01 * _rest(least, student, teacher) + 1e-9 * energy
        found = pointwise(student @ student.T, teacher @ student.T, 0.0)
        assert found.isfinite().all(), number
        assert _rest(found, student, teacher) <= most, number
        biased = pointwise(rows[0] @ rows[0].T, rows[1] @ rows[0].T, 0.0, has_bias=True)
        assert biased.isfinite().all(), number
        assert _rest(biased, *rows) <= most, number


def test_single_precision_and_damping_leave_numbers() -> None:
    generator = torch.Generator().manual_seed(1)
    precision = torch.finfo(torch.float32).eps
    for number in range(300):
        sides = [side.float()[None, ..., None] for side in _problem(generator)]  # [1, C, pixels, 1]
        grams = [torch.zeros(sides[0].shape[1], sides[0].shape[1]).double() for _ in range(2)]
        fsc_ext.gram_accumulate_(*grams, None, *sides)
        student, teacher = (side[0, ..., 0].double() for side in sides)
        before = _rest(torch.eye(len(student)).double(), student, teacher)
        for damping in (0.0, 1e-12, 1e-6, 0.1, 1e9):
            found = pointwise(*grams, damping, precision=precision)
            assert found.isfinite().all(), (number, damping)
            energy = float(teacher.square().sum() + student.square().sum())
            assert _rest(found, student, teacher) <= before + 1e-4 * energy, (number, damping)


def test_what_the_images_leave_open_stays_as_it_is() -> None:
    student, teacher = torch.randn(6, 4).double(), torch.randn(6, 4).double()
    student[5] = 0
    factor = pointwise(student @ student.T, teacher @ student.T, 0.0)
    unseen = torch.linalg.svd(student, full_matrices=True).U[:, 4:]  # [6, 2]
    torch.testing.assert_close(factor @ unseen, unseen)
    torch.testing.assert_close(factor @ student, teacher)


def test_it_is_the_least_squares_solution_and_damping_pulls_it_to_the_identity() -> None:
    student, teacher = torch.randn(4, 50).double(), torch.randn(4, 50).double()
    expected = torch.linalg.lstsq(student.T, teacher.T).solution.T
    for damping in (0.0, 1e-9):
        found = pointwise(student @ student.T, teacher @ student.T, damping)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    pulled = pointwise(student @ student.T, teacher @ student.T, 1e9)
    torch.testing.assert_close(pulled, torch.eye(4).double(), rtol=0, atol=1e-6)
    # By eigenvalues and by a factor of the matrix alike.
    grams = student @ student.T, teacher @ student.T
    one, other = pointwise(*grams, 1e-3), pointwise(*grams, 1e-3, precision=1e-4)
    torch.testing.assert_close(one, other)


LAYERS = {
    "1x1": (nn.Conv2d(4, 6, 1), (5, 4, 6, 6)),
    "5x5": (nn.Conv2d(4, 6, 5, padding=2, stride=2), (5, 4, 9, 9)),
    "no-bias": (nn.Conv2d(4, 6, 3, bias=False), (5, 4, 6, 6)),
    "even": (nn.Conv2d(4, 6, (2, 4), padding="same", dilation=2), (5, 4, 9, 9)),
    "reflected": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), (5, 4, 6, 6)),
    "grouped": (nn.Conv2d(4, 6, 3, padding=1, groups=2), (5, 4, 6, 6)),
    "rows": (nn.Conv1d(4, 6, 3, bias=False), (5, 4, 9)),
    "volumes": (nn.Conv3d(4, 6, 3, padding=1), (3, 4, 4, 5, 6)),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (5, 4, 6, 6)),
    "transposed-1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1), (5, 4, 6)),
    "transposed-3d": (nn.ConvTranspose3d(4, 6, 2, bias=False), (3, 4, 4, 5, 6)),
    "linear": (nn.Linear(4, 6), (5, 4)),
    "tokens": (nn.Linear(4, 6, bias=False), (5, 7, 4)),
}


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_explicit_and_absorbed_are_one(
    name: str, intercept: bool, dtype: torch.dtype, most: float
) -> None:
    """Theorem 1: Q behind the layer, and the layer that absorbed it, of any kind."""
    torch.manual_seed(0)
    layer, shape = LAYERS[name]
    layer = copy.deepcopy(layer).to(dtype)
    features, teacher = torch.randn(shape, dtype=dtype), copy.deepcopy(layer)
    groups = getattr(layer, "groups", 1)
    rows = torch.tensor([0, 2, 3, 5]).view(groups, -1)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        given = layer(features)
        problem = PointwiseProblem(layer, rows, intercept)
        problem.accumulate(teacher(features), given)
        factors = problem.solve(0.05, "layer")
        assert problem.error(factors) <= problem.error(problem.identity())
        absorbed = problem.absorbed(factors)
        explicit = absorbed.applied(given)
        absorbed.write()
        by_hand = _explicit(given, rows, factors, -1 if isinstance(layer, nn.Linear) else 1)
        assert (layer(features) - explicit).abs().max() <= most
        assert (layer(features) - by_hand).abs().max() <= most


def test_channels_of_the_teacher_are_chosen_without_a_copy() -> None:
    """What a copy of some channels gives, which the teacher has in another order."""
    torch.manual_seed(0)
    layer, channels = nn.Conv2d(3, 4, 3), torch.tensor([5, 0, 3, 2])
    teacher, student = torch.randn(2, 6, 5, 5), torch.randn(2, 4, 5, 5)
    for rows in (torch.arange(4)[None], torch.tensor([[0, 2], [3, 1]])):
        found, copied = PointwiseProblem(layer, rows), PointwiseProblem(layer, rows)
        found.accumulate(teacher, student, channels)
        copied.accumulate(teacher[:, channels], student)
        for grams, expected in zip(found.grams, copied.grams, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(grams, expected, strict=True))


def _explicit(given: Tensor, rows: Tensor, factors: list[Tensor], axis: int) -> Tensor:
    """What Q, or Q and a bias, makes of the rows of a value, group by group."""
    made = given.clone().movedim(axis, 0)
    for own, factor in zip(rows, factors, strict=True):
        mixed = factor.to(given.dtype)[: len(own), : len(own)] @ made[own].flatten(1)
        if len(factor) > len(own):
            mixed = mixed + factor.to(given.dtype)[: len(own), len(own) :]
        made[own] = mixed.view_as(made[own])
    return made.movedim(0, axis)


def test_only_layers_that_exist_are_absorbed_into() -> None:
    with pytest.raises(ValueError, match="layer must be a convolution or Linear, got ReLU"):
        Absorbed(nn.ReLU(), torch.zeros(1, 1), torch.zeros(1, 1, 1)).write()
