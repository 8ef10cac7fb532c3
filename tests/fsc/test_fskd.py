"""FSKD: 1x1 convolutions aligned by least squares and absorbed."""

import copy

import pytest
import torch
from kinds import every_kind
from networks import chain
from torch import Tensor, nn

import fsc
from fsc.channels.cutting import cut_channels
from fsc.channels.proof import channel_groups
from fsc.methods import fskd
from fsc.methods.l1_norm import largest_channels
from fsc.networks import surgery
from fsc.schemes import Scheme
from fsc.walking.visitor import Layer

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

    def remember(*arguments: Tensor) -> Tensor:
        solved.append(align(*arguments))
        return solved[-1]

    align = fskd.align
    monkeypatch.setattr(fskd, "align", remember)
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


def test_fskd_aligns_to_the_least_squares_solution() -> None:
    student, teacher = torch.randn(4, 50).double(), torch.randn(4, 50).double()
    q = fskd.align(student @ student.T, teacher @ student.T, 1e-9)
    expected = torch.linalg.lstsq(student.T, teacher.T).solution.T
    torch.testing.assert_close(q, expected, rtol=1e-6, atol=1e-6)


def test_fskd_damping_pulls_towards_the_identity() -> None:
    student, teacher = torch.randn(4, 50).double(), torch.randn(4, 50).double()
    q = fskd.align(student @ student.T, teacher @ student.T, 1e9)
    torch.testing.assert_close(q, torch.eye(4).double(), rtol=0, atol=1e-6)


def test_fskd_repeats_on_flipped_images() -> None:
    teacher, images = chain(), _images()
    once, twice = (
        fsc.compress(teacher, images, method=fsc.FSKD(iterations=n), scheme=SCHEME).student
        for n in (1, 2)
    )
    assert not torch.equal(once.conv2.weight, twice.conv2.weight)
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        fsc.FSKD(iterations=0)
    with pytest.raises(ValueError, match="damping must be finite and above 0, got -1"):
        fsc.FSKD(damping=-1)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(4, 6, 3, padding=1, groups=2),
        nn.Conv1d(4, 6, 3, bias=False),
        nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2),
        nn.Linear(4, 6),
    ],
    ids=["grouped", "rows", "transposed", "tokens"],
)
def test_q_is_absorbed_by_every_layer_that_mixes(layer: nn.Module) -> None:
    shape = {nn.Conv1d: (5, 4, 9), nn.Linear: (5, 7, 4)}.get(type(layer), (5, 4, 6, 6))
    layer, features = layer.double(), torch.randn(shape, dtype=torch.float64)
    groups = getattr(layer, "groups", 1)
    rows = torch.tensor([0, 2, 3, 5]).view(groups, -1)
    factors = torch.randn(groups, rows.shape[1], rows.shape[1], dtype=torch.float64)
    told = Layer("layer", layer, layer, "none", "none", 5, 0, 1)
    with torch.no_grad():
        before = layer(features)
        axis = -1 if isinstance(layer, nn.Linear) else 1
        expected = before.clone().movedim(axis, 0)
        for own, pointwise in zip(rows, factors, strict=True):
            expected[own] = (pointwise @ expected[own].flatten(1)).view_as(expected[own])
        fskd._absorb(layer, rows, factors)
        after = layer(features)
        changed = fskd._aligned(told, before, rows, factors)
    torch.testing.assert_close(after.movedim(axis, 0), expected)
    torch.testing.assert_close(changed, after)


def test_fskd_aligns_grouped_convolutions_and_not_depthwise_ones() -> None:
    teacher, images = every_kind(), torch.randn(16, 3, 8, 8)
    result = fsc.compress(teacher, images, method=fsc.FSKD(), scheme=Scheme("half", {"first": 4}))
    aligned = [layer.name for layer in result.report.layers]
    assert aligned == ["first", "grouped", "up", "volume", "rows", "tokens"]
    assert all(e.error <= e.error_before * (1 + 1e-6) + 1e-9 for e in result.report.layers)
    assert torch.equal(result.student.depthwise.weight, teacher.depthwise.weight)
