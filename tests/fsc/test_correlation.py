"""Correlation of teacher and student at the ends of blocks."""

import copy

import numpy as np
import pytest
import torch
from networks import chain, small
from torch import nn

import fsc
from fsc.networks import surgery
from fsc.report.correlation import correlations
from fsc.schemes import Decoupling, Scheme

IMAGES = torch.randn(30, 3, 12, 12)
SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


def _pointwise(weight, bias=None):
    layer = nn.Conv2d(2, len(weight), 1, bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight)[:, :, None, None])
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return nn.Sequential(layer).eval()


def test_channels_with_a_known_correlation():
    """Of two independent inputs: a scaled copy, a mixture, a constant, an opposite."""
    a = torch.tensor([1.0, -1, 1, -1]).view(1, 1, 2, 2)
    b = torch.tensor([1.0, 1, -1, -1]).view(1, 1, 2, 2)
    image = torch.cat([a, b], 1)
    teacher = _pointwise([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    student = _pointwise(
        [[3.0, 0.0], [3.0, 4.0], [0.0, 0.0], [-1.0, -1.0]], bias=[5.0, 0.0, 2.0, 0.0]
    )
    (found,) = correlations(teacher, student, image.repeat(3, 1, 1, 1), batch_size=2)
    assert (found.name, found.channels) == ("0", 4)
    assert found.correlation == pytest.approx((1 + 3 / 5 + 0 - 1) / 4)


def test_what_is_constant_in_the_teacher_is_left_out():
    image = torch.randn(4, 2, 3, 3)
    flat = _pointwise([[1.0, 0.0], [0.0, 0.0]], bias=[0.0, 7.0])
    varied = _pointwise([[1.0, 0.0], [0.0, 1.0]])
    assert correlations(flat, varied, image)[0].correlation == pytest.approx(1)
    nothing = _pointwise([[0.0, 0.0]], bias=[7.0])
    assert correlations(nothing, _pointwise([[1.0, 0.0]]), image)[0].correlation is None


def test_it_is_what_numpy_says_of_the_channels_that_stay():
    teacher = chain()
    result = fsc.compress(teacher, IMAGES[:10], method=fsc.FSKD(), scheme=SCHEME)
    found = correlations(teacher, result.student, IMAGES[10:], kept=result.report.kept)
    assert [block.name for block in found] == ["conv1", "conv2", "conv3", "conv4", "head"]
    assert [block.channels for block in found] == [4, 5, 6, 6, 4]
    with torch.no_grad():
        first = (teacher.bn1(teacher.conv1(IMAGES[10:])), result.student.conv1(IMAGES[10:]))
        seconds = [
            net.conv2(x.relu()) for net, x in zip((teacher, result.student), first, strict=True)
        ]
    kept = result.report.kept["conv2"]
    pairs = zip(
        seconds[0][:, kept].transpose(0, 1).flatten(1).numpy(),
        seconds[1].transpose(0, 1).flatten(1).numpy(),
        strict=True,
    )
    expected = np.mean([np.corrcoef(one, other)[0, 1] for one, other in pairs])
    assert found[1].correlation == pytest.approx(expected, rel=1e-5)


def test_recovery_raises_it_and_the_teacher_is_like_itself():
    teacher = chain()
    given = {"scheme": SCHEME, "images": IMAGES[:10]}
    before, after = (
        correlations(teacher, result.student, IMAGES[10:], kept=result.report.kept)
        for result in (fsc.compress(teacher, method=m, **given) for m in (fsc.L1Norm(), fsc.FSKD()))
    )
    assert all(b.correlation > a.correlation for a, b in zip(before[2:4], after[2:4], strict=True))
    same = correlations(teacher, copy.deepcopy(teacher), IMAGES)
    assert [block.correlation for block in same] == pytest.approx([1.0] * 5)


def test_batches_do_not_matter_nor_does_whether_batch_norm_is_folded():
    teacher, student = small().eval(), small().eval()
    folded = copy.deepcopy(student)
    surgery.fold_batch_norm(folded)
    images = torch.randn(7, 3, 9, 9)
    found = [
        [b.correlation for b in correlations(teacher, net, images, batch_size=size)]
        for net, size in ((student, 7), (student, 3), (folded, 7))
    ]
    for other in found[1:]:
        assert other == pytest.approx(found[0], abs=1e-5)
    # A depthwise convolution mixes nothing: the block ends behind the next one.
    assert [b.name for b in correlations(teacher, student, images)] == ["0", "4", "7"]


def test_decoupled_layers_end_with_the_pointwise_one():
    teacher = chain()
    scheme = Decoupling(terms={"conv2": 9, "conv4": 1})
    student = fsc.compress(teacher, IMAGES, method=fsc.L1Norm(), scheme=scheme).student
    found = {block.name: block.correlation for block in correlations(teacher, student, IMAGES)}
    assert list(found) == ["conv1", "conv2.pointwise", "conv3", "conv4.pointwise", "head"]
    assert found["conv2.pointwise"] == pytest.approx(1, abs=1e-6)
    assert found["conv4.pointwise"] < 0.99


def test_errors():
    teacher = chain()
    student = fsc.compress(teacher, IMAGES, method=fsc.L1Norm(), scheme=SCHEME).student
    with pytest.raises(ValueError, match="kept must say which of the teacher's 8 channels the 4"):
        correlations(teacher, student, IMAGES)
    with pytest.raises(ValueError, match="student must have layers of the names that the tea"):
        correlations(teacher, nn.Sequential(nn.Conv2d(3, 4, 3)), IMAGES)
    wide = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)).eval()
    with pytest.raises(ValueError, match=r"the teacher's \[12, 12\] at '0', got \[10, 10\]"):
        correlations(wide, nn.Sequential(nn.Conv2d(3, 4, 3)).eval(), IMAGES)


@pytest.mark.parametrize(
    "given",
    [[0, 1], [0, 1, 2, 8], [-1, 0, 1, 2], [0, 1, 1, 2], [0.0, 1.0, 2.0, 3.0], [True] * 4, "0123"],
)
def test_kept_must_be_different_channels_of_the_teacher(given):
    teacher = chain()
    result = fsc.compress(teacher, IMAGES, method=fsc.L1Norm(), scheme=SCHEME)
    kept = result.report.kept | {"conv1": given}
    expected = r"kept of 'conv1' must be 4 different integers from 0 to 7, got .*"
    with pytest.raises(ValueError, match=expected):
        correlations(teacher, result.student, IMAGES, kept=kept)


def test_kept_must_name_layers_of_the_student():
    teacher = chain()
    with pytest.raises(ValueError, match="kept must name layers of the student, got 'conv9'"):
        correlations(teacher, copy.deepcopy(teacher), IMAGES, kept={"conv9": [0, 1]})


def test_dropped_blocks_are_passed_over():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 1)).eval()
    shorter = copy.deepcopy(model)
    shorter[2] = nn.Identity()
    assert [block.name for block in correlations(model, shorter, IMAGES)] == ["0"]
