"""FSKD takes students with residual streams and BatchNorms before their layers."""

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc.channels.cutting import cut_channels
from fsc.channels.proof import channel_groups
from fsc.methods.l1_norm import largest_channels
from fsc.methods.soundness import Yardstick
from fsc.schemes import Scheme


def _gap(teacher: nn.Module, network: nn.Module, images: Tensor) -> float:
    return Yardstick(teacher, images, 8).distance(network)


def _images(count: int = 16) -> Tensor:
    torch.manual_seed(4)
    return torch.randn(count, 3, 8, 8)


def _cut(teacher: nn.Module, images: Tensor, scheme: Scheme) -> nn.Module:
    student = copy.deepcopy(teacher)
    groups = channel_groups(teacher, images[:1])
    cut_channels(student, groups, largest_channels(teacher, groups, scheme.kept))
    return student


class _Residual(nn.Module):
    """A stem, a block with its input added, and one whose shortcut is a convolution."""

    def __init__(self) -> None:
        super().__init__()

        def layer(*sizes: int, **options: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(*sizes, bias=False, **options), nn.BatchNorm2d(sizes[1]))

        self.stem = layer(3, 12, 3, padding=1)
        self.one, self.two = layer(12, 9, 3, padding=1), layer(9, 12, 3, padding=1)
        self.three, self.four = layer(12, 10, 3, padding=1, stride=2), layer(10, 14, 3, padding=1)
        self.shortcut = layer(12, 14, 1, stride=2)
        self.head = nn.Linear(14, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        x = (x + self.two(self.one(x).relu())).relu()
        x = (self.four(self.three(x).relu()) + self.shortcut(x)).relu()
        return self.head(x.mean((2, 3)))


def _residual(images: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = _Residual()
    with torch.no_grad():
        for _ in range(20):  # statistics of what it is to see
            model(images)
    return model.eval()


def test_copies_are_found_in_residual_streams_and_of_other_length() -> None:
    images = _images()
    teacher = _residual(images)
    student = fsc.compress(teacher, images, method="l1", pruning_ratio=0.4).student
    assert student.stem[0].out_channels < 12 and student.four[0].out_channels < 14
    with torch.no_grad():
        student.one[1].weight.mul_(1.7)  # what comes out is another multiple of each filter
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = fsc.FSKD(solve_on=0).align(teacher, student, images)
    assert _gap(teacher, made, images) < 0.8 * _gap(teacher, student, images)


def test_residual_blocks_are_compared_behind_their_additions() -> None:
    images = _images()
    teacher = _residual(images)
    student = fsc.compress(teacher, images, method="l1", pruning_ratio=0.4).student
    align = fsc.FSKD(solve_on=0, damping=1e-6).align
    made = align(teacher, student, images, blocks="residual")
    assert _gap(teacher, made, images) < 0.8 * _gap(teacher, student, images)
    still = fsc.FSKD(solve_on=0, damping=1e12).align(teacher, student, images, blocks="residual")
    for name in ("stem", "one", "two", "three", "four", "shortcut"):
        weights = [network.get_submodule(name)[0].weight for network in (made, still)]
        assert torch.allclose(*weights, atol=1e-6) == (name not in ("two", "four")), name


class _PreActivation(nn.Module):
    """BatchNorms that stand before their convolutions, one of them on a residual stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.bn1, self.bn2, self.bn3 = (nn.BatchNorm2d(size) for size in (12, 10, 12))
        self.one, self.two = nn.Conv2d(12, 10, 3, padding=1), nn.Conv2d(10, 12, 3, padding=1)
        self.last, self.head = nn.Conv2d(12, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.one(self.bn1(x).relu()).relu()
        x = x + self.two(self.bn2(y))
        return self.head(self.last(self.bn3(x).relu()).relu().mean((2, 3)))


def test_batch_norms_that_stand_before_a_layer_are_taken_anew_as_compress_does() -> None:
    torch.manual_seed(0)
    teacher, images = _PreActivation(), _images()
    with torch.no_grad():
        for _ in range(20):
            teacher(images)
    teacher.eval()
    scheme = Scheme("some", {"stem": 7, "one": 5})
    compressed = fsc.compress(teacher, images, method=fsc.FSKD(solve_on=0), scheme=scheme).student
    student = _cut(teacher, images, scheme)
    align = fsc.FSKD(solve_on=0).align
    made = align(teacher, student, images)
    with torch.no_grad():
        torch.testing.assert_close(made(images), compressed(images), rtol=0, atol=1e-4)
    assert not torch.equal(made.bn3.running_var, student.bn3.running_var)
    student.bn3.running_mean.add_(1)
    with pytest.warns(fsc.CompressionWarning, match=r"'bn3' \(its statistics are not those of the"):
        assert torch.equal(align(teacher, student, images).bn3.running_var, student.bn3.running_var)
