"""FSKD: 1x1 convolutions aligned by least squares and absorbed."""

import copy
from typing import Any

import pytest
import torch
from kinds import every_kind
from networks import chain
from torch import Tensor, nn

import fsc
from fsc.channels.cutting import cut_channels
from fsc.channels.proof import channel_groups
from fsc.images.augmentation import filled_up
from fsc.layers import pointwise_layer
from fsc.methods.l1_norm import largest_channels
from fsc.networks import surgery
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


def _images(count: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, 8, 8, dtype=dtype)


def _gap(teacher: nn.Module, student: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        return float((teacher(images) - student(images)).square().sum())


def test_absorbed_network_equals_the_one_with_explicit_pointwise_layers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FSKD's Theorem 1 on layers with a bias, without one, and with a folded BatchNorm."""
    solved: list[Tensor] = []

    def remember(*arguments: Any, **options: Any) -> Tensor:
        solved.append(pointwise(*arguments, **options))
        return solved[-1]

    pointwise = pointwise_layer.pointwise
    monkeypatch.setattr(pointwise_layer, "pointwise", remember)
    teacher, images = chain(), _images(16)
    absorbed = fsc.compress(teacher, images, method=fsc.FSKD(), scheme=SCHEME).student

    explicit = copy.deepcopy(teacher)
    surgery.fold_batch_norm(explicit)
    groups = channel_groups(teacher, images[:1])
    cut_channels(explicit, groups, largest_channels(teacher, groups, SCHEME.kept))
    assert explicit.conv3.bias is None and explicit.conv2.bias is not None
    for name, pointwise in zip(("conv1", "conv2", "conv3", "conv4"), solved, strict=True):
        surgery.insert_pointwise(explicit, name, pointwise.float())
    with torch.no_grad():
        assert (absorbed(images) - explicit(images)).abs().max() <= 1e-5
    assert _gap(teacher, absorbed, images) < _gap(
        teacher, fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=SCHEME).student, images
    )


def test_fskd_keeps_what_the_images_leave_open_without_damping() -> None:
    teacher, images = chain(), _images(1)
    result = fsc.compress(teacher, images, method=fsc.FSKD(damping=0), scheme=SCHEME)
    assert all(e.error <= e.error_before * (1 + 1e-6) + 1e-9 for e in result.report.layers)
    assert all(value.isfinite().all() for value in result.student.state_dict().values())


def test_an_intercept_comes_closer_where_a_layer_has_a_bias() -> None:
    teacher, images = chain(), _images(16)
    without, with_bias = (
        fsc.compress(teacher, images, method=fsc.FSKD(intercept=i, damping=1e-9), scheme=SCHEME)
        for i in (False, True)
    )
    ends = [{e.name: e for e in r.report.layers} for r in (without, with_bias)]
    assert ends[1]["conv2"].error < 0.99 * ends[0]["conv2"].error
    assert with_bias.student.conv3.bias is None
    assert with_bias.student(images).isfinite().all()


def test_fskd_solves_on_copies_where_few_images_are_given() -> None:
    teacher, images = chain(), _images()
    given = filled_up(images, 20, seed=3)
    few, many = (
        fsc.compress(teacher, each, method=fsc.FSKD(solve_on=n), scheme=SCHEME, seed=3).student
        for each, n in ((images, 20), (given, 0))
    )
    for name, value in few.state_dict().items():
        assert torch.equal(value, many.state_dict()[name]), name
    assert fsc.FSKD().walks_on(50, 3 * 32**2) == 400 and fsc.FSKD().walks_on(500, 12) == 500
    with pytest.raises(ValueError, match="solve_on must be at least 0, got -1"):
        fsc.FSKD(solve_on=-1)


def test_fskd_repeats_on_flipped_images() -> None:
    teacher, images = chain(), _images()
    once, twice = (
        fsc.compress(teacher, images, method=fsc.FSKD(iterations=n), scheme=SCHEME).student
        for n in (1, 2)
    )
    assert not torch.equal(once.conv2.weight, twice.conv2.weight)
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        fsc.FSKD(iterations=0)
    with pytest.raises(ValueError, match="damping must be finite and at least 0, got -1"):
        fsc.FSKD(damping=-1)


@pytest.mark.parametrize("scale", [1e20, 1e30])
@pytest.mark.parametrize("damping", [0.01, 0.0])
def test_outputs_that_cannot_be_told_apart_are_named(scale: float, damping: float) -> None:
    sentence = f"layer conv[12] cannot be aligned: its outputs are too large, .* got {damping:g}$"
    with pytest.raises(ValueError, match=sentence), pytest.warns(fsc.CompressionWarning):
        fsc.compress(chain(), scale * _images(), method=fsc.FSKD(damping=damping), scheme=SCHEME)


def test_fskd_aligns_grouped_convolutions_and_not_depthwise_ones() -> None:
    teacher, images = every_kind(), torch.randn(16, 3, 8, 8)
    result = fsc.compress(teacher, images, method=fsc.FSKD(), scheme=Scheme("half", {"first": 4}))
    aligned = [layer.name for layer in result.report.layers]
    assert aligned == ["first", "grouped", "up", "volume", "rows", "tokens"]
    assert all(e.error <= e.error_before * (1 + 1e-6) + 1e-9 for e in result.report.layers)
    assert torch.equal(result.student.depthwise.weight, teacher.depthwise.weight)


def test_linears_that_see_one_column_an_image_are_named() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 3)).eval()
    report = fsc.compress(teacher, torch.randn(30, 6), method="fskd", pruning_ratio=0.4).report
    assert report.left["0"] == "'0' is not aligned: it sees one column an image, too few for a Q"


def test_a_network_of_linears_is_told_that_nothing_is_aligned() -> None:
    teacher = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    images = torch.randn(12, 8)
    with pytest.warns(fsc.CompressionWarning, match="FSKD aligned no layer, they stay as pruned; "):
        result = fsc.compress(teacher, images, method="fskd", flops=0.5)
    assert "0" in result.report.left
