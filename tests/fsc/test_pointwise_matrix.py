"""The pointwise matrices of layers, before and after."""

import pytest
import torch
from networks import chain
from torch import nn

import fsc
from fsc.networks.decoupling import decoupled
from fsc.report import figure, pointwise
from fsc.report.pointwise import pointwise_matrix, scaled
from fsc.schemes import Decoupling

IMAGES = torch.randn(8, 3, 8, 8)


def test_a_layer_of_one_term_is_the_matrix_times_its_filters():
    torch.manual_seed(1)
    wanted, filters = torch.randn(6, 4), torch.rand(4, 9)
    filters /= filters.norm(dim=1, keepdim=True)
    layer = nn.Conv2d(4, 6, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_((wanted[:, :, None] * filters).view_as(layer.weight))
    found = pointwise_matrix(nn.Sequential(layer), "0")
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_1x1_convolution_is_its_own_with_batch_norm_folded():
    model = nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6, eps=0)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.arange(1.0, 7.0))
    wanted = model[0].weight.detach()[:, :, 0, 0] * torch.arange(1.0, 7.0)[:, None]
    assert torch.allclose(pointwise_matrix(model, "0").abs(), wanted.abs(), atol=1e-6)


@pytest.mark.parametrize("terms", [1, 3])
def test_a_decoupled_layer_has_the_first_term_of_the_whole_one(terms):
    teacher = chain()
    scheme = Decoupling(terms={"conv2": terms})
    student = fsc.compress(teacher, IMAGES, method=fsc.L1Norm(), scheme=scheme).student
    found = pointwise_matrix(student, "conv2")
    assert found.shape == (10, 8)
    assert torch.allclose(found, pointwise_matrix(teacher, "conv2"), atol=1e-5)
    # Of the first term alone, signs aside.
    first = decoupled(teacher.conv2, 1).pointwise.weight.detach().flatten(1)
    assert torch.allclose(found.abs(), first.abs(), atol=1e-5)


def test_recovery_changes_it():
    teacher, scheme = chain(), Decoupling(terms={"conv2": 1})
    before, after = (
        pointwise_matrix(
            fsc.compress(teacher, IMAGES, method=method, scheme=scheme).student, "conv2"
        )
        for method in (fsc.L1Norm(), fsc.FSKD())
    )
    assert before.shape == after.shape and not torch.allclose(before, after, atol=1e-3)


def test_scaled_values_fill_the_range():
    assert scaled(torch.tensor([[-1.0, 1.0], [0.0, 3.0]])).tolist() == [[0.0, 0.5], [0.25, 1.0]]
    assert scaled(torch.ones(2, 2)).tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_what_stands_in_the_figure(monkeypatch):
    from matplotlib.text import Text

    drawn = []
    monkeypatch.setattr(figure, "write", lambda made, path: drawn.append(made))
    matrices = {"before": torch.randn(8, 4), "after": torch.randn(8, 4)}
    pointwise.draw(matrices, "f.png", title="the title", name="conv2")
    said = {text.get_text() for text in drawn[0].findobj(Text)}
    assert {"before", "after", "the title: pointwise matrix of conv2", "input channel"} <= said
    image = drawn[0].axes[0].images[0]
    assert (image.get_array().min(), image.get_array().max()) == (0, 1)


def test_errors(tmp_path):
    for name, told in (("bn1", "BatchNorm2d"), ("nothing", "none"), ("head", "Linear")):
        with pytest.raises(ValueError, match=f"name must be that of a Conv2d .* got {told} at "):
            pointwise_matrix(chain(), name)
    with pytest.raises(ValueError, match="draw: matrices must not be empty"):
        pointwise.draw({}, tmp_path / "f.png", title="", name="")
    with pytest.raises(ValueError, match="figure must end in"):
        pointwise.draw({"a": torch.ones(2, 2)}, tmp_path / "f.gif", title="", name="")
