import pytest
import torch
from torch import Tensor, nn

from fsc.layers.moments import Columns, Moments, layer_statistics
from fsc.layers.objectives import Convex, Correction, Estimation, Imitation, Objective, Soft
from fsc.solvers.patch import Patch
from fsc.solvers.quadratic import GramQuadratic

OBJECTIVES = [Estimation(), Correction(), Imitation(), Convex(0.6), Soft(0.9, 0.3)]
GEOMETRIES = [
    nn.Conv2d(3, 5, 3, padding=1),
    nn.Conv2d(3, 5, 3, padding=1, bias=False),
    nn.Conv2d(4, 2, (3, 1), stride=(2, 1), padding=(0, 1), dilation=(1, 2)),
    nn.Conv2d(6, 4, 1, bias=False),
    nn.Conv2d(3, 4, (3, 5), padding="same", dilation=2),
]


def _inputs(layer: nn.Conv2d, count: int = 3) -> tuple[Tensor, Tensor]:
    shape = (count, layer.in_channels, 7, 6)
    return torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)


def _flat(layer: nn.Conv2d) -> Tensor:
    parts = [layer.weight.detach().flatten(1)]
    if layer.bias is not None:
        parts.append(layer.bias.detach()[:, None])
    return torch.cat(parts, 1)


def _direct_loss(
    flat: Tensor, layer: nn.Conv2d, inputs: tuple[Tensor, Tensor], objective: Objective
) -> Tensor:
    """Eq. 1-8 of the paper with convolutions and no activation."""
    teacher, student = inputs
    has_bias = layer.bias is not None
    weight = flat[:, : flat.shape[1] - has_bias].reshape(layer.weight.shape)
    geometry = (layer.stride, layer.padding, layer.dilation)
    total = flat.new_zeros(())
    for term in objective.terms:
        x_t = term.alpha * teacher + (1 - term.alpha) * student
        x_s = (1 - term.beta) * teacher + term.beta * student
        target = nn.functional.conv2d(x_t, layer.weight.detach(), None, *geometry)
        if has_bias:
            target = target + layer.bias.detach()[:, None, None]
        output = nn.functional.conv2d(x_s, weight, flat[:, -1] if has_bias else None, *geometry)
        total = total + term.weight * (target - output).square().sum()
    return total / len(teacher)


@pytest.mark.parametrize("layer", GEOMETRIES, ids=str)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_quadratic_has_the_loss_and_gradient_of_the_convolutions(
    layer: nn.Conv2d, objective: Objective
) -> None:
    layer = layer.double()
    inputs = _inputs(layer)
    moments = Moments(Patch.of(layer))
    moments.accumulate(*inputs)
    quadratic = moments.quadratic(objective, _flat(layer))
    weight = torch.randn_like(_flat(layer)).requires_grad_()
    loss = _direct_loss(weight, layer, inputs, objective)
    (gradient,) = torch.autograd.grad(loss, weight)
    assert quadratic.loss(weight.detach()) == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(
        quadratic.gradient(weight.detach()), gradient, rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("layer", GEOMETRIES, ids=str)
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_columns_and_grams_are_the_same_quadratic(layer: nn.Conv2d, objective: Objective) -> None:
    layer = layer.double()
    patch = Patch.of(layer)
    moments, columns = Moments(patch), Columns(patch)
    for _ in range(2):
        inputs = _inputs(layer)
        moments.accumulate(*inputs)
        columns.accumulate(*inputs)
    gram = moments.quadratic(objective, _flat(layer))
    factored = columns.quadratic(objective, _flat(layer))
    weight = torch.randn_like(_flat(layer))
    torch.testing.assert_close(factored.row_losses(weight), gram.row_losses(weight))
    assert factored.mean_curvature() == pytest.approx(gram.mean_curvature(), rel=1e-12)


def test_moments_add_up_over_batches() -> None:
    layer = nn.Conv2d(3, 5, 3, padding=1).double()
    teacher, student = _inputs(layer, 6)
    whole, first, second = (Moments(Patch.of(layer)) for _ in range(3))
    whole.accumulate(teacher, student)
    first.accumulate(teacher[:4], student[:4])
    second.accumulate(teacher[4:], student[4:])
    total = first + second
    assert total.num_images == 6
    for name in ("gram_student", "gram_cross", "gram_teacher"):
        torch.testing.assert_close(getattr(total, name), getattr(whole, name))


def test_moments_of_different_layers_do_not_add() -> None:
    with pytest.raises(ValueError, match="moments must be of one geometry to be added"):
        Moments(Patch(3)) + Moments(Patch(4))


def test_linear_layers_are_one_by_one_convolutions() -> None:
    layer = nn.Linear(6, 3).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    moments = Moments(Patch.of(layer))
    moments.accumulate(x, x)
    with_ones = torch.cat([x, torch.ones(5, 1, dtype=torch.float64)], 1)
    torch.testing.assert_close(moments.gram_student, with_ones.T @ with_ones)


def test_the_cheaper_representation_is_chosen() -> None:
    wide = Patch(512, (3, 3), padding=(1, 1))
    narrow = Patch(16, (3, 3), padding=(1, 1))
    assert isinstance(layer_statistics(wide, 50 * 2 * 2), Columns)
    assert isinstance(layer_statistics(narrow, 50 * 32 * 32), Moments)


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [
        (nn.ReLU(), "layer must be a Conv2d or Linear, got ReLU"),
        (nn.Conv2d(4, 4, 3, groups=2), "groups=2"),
        (nn.Conv2d(4, 4, 2, padding="same"), "padding='same'"),
        (nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), "padding_mode='reflect'"),
    ],
)
def test_geometries_that_have_no_moments_are_refused(layer: nn.Module, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        Patch.of(layer)


def test_num_columns_is_the_size_of_the_output() -> None:
    layer = GEOMETRIES[2]
    output = nn.Conv2d(4, 2, (3, 1), stride=(2, 1), padding=(0, 1), dilation=(1, 2))(
        torch.randn(1, 4, 7, 6)
    )
    assert Patch.of(layer).num_columns((7, 6)) == output[0, 0].numel()


def test_gram_quadratic_counts_images() -> None:
    quadratic = GramQuadratic(torch.eye(2), torch.zeros(1, 2), torch.zeros(1), num_images=4)
    assert quadratic.loss(torch.tensor([[2.0, 0.0]])) == 1.0
