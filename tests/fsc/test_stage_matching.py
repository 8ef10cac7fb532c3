"""Stages of networks that are built differently: each stands for that with maps of its size."""

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc import models
from fsc.methods import any_aligned
from fsc.methods.block_ends import Match


def _matched(teacher: nn.Module, student: nn.Module) -> Match:
    return any_aligned.match_of(teacher, student, torch.zeros(1, 3, 32, 32), "stages")


def test_stages_of_a_vgg_13_stand_for_those_of_a_vgg_19_and_of_residual_networks() -> None:
    def ends(one: nn.Module, other: nn.Module) -> list[tuple[str, str]]:
        match = _matched(one, other)
        assert not match.ends.left
        return [meeting.names for meeting in match.ends.meetings]

    found = ends(models.build("vgg19"), models.build("vgg13"))
    assert found == [
        ("features.3", "features.3"), ("features.10", "features.10"),
        ("features.23", "features.17"), ("features.36", "features.24"),
        ("features.49", "features.31"),
    ]  # fmt: skip
    teacher, student = models.build("resnet20"), models.build("resnet14")
    assert ends(teacher, student) == [
        (f"layer{stage}.2.conv2", f"layer{stage}.1.conv2") for stage in (1, 2, 3)
    ]
    match = _matched(teacher, student)
    for meeting in match.ends.meetings:
        assert match.student.addition(meeting.names[1]) is meeting.student


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def end(self, x: Tensor) -> Tensor:
        return self.branch(self.stem(x).relu())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.end(x).relu().mean((2, 3)))


class _Residual(_Plain):
    def end(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        return x + self.branch(x)


class _Gated(_Plain):
    """What goes into the addition is another value than the layer gives."""

    def end(self, x: Tensor) -> Tensor:
        x = self.stem(x).relu()
        y = self.branch(x)
        return x + y * y.mean((2, 3), keepdim=True).sigmoid()


def _built(*kinds: type[_Plain]) -> list[nn.Module]:
    networks = []
    for seed, kind in enumerate(kinds):
        torch.manual_seed(seed)
        networks.append(kind().eval())
    return networks


@pytest.mark.filterwarnings("ignore:student is farther")  # the head is another one's
@pytest.mark.parametrize("kinds", [(_Plain, _Residual), (_Residual, _Plain)])
def test_a_stage_with_a_shortcut_and_one_without_give_the_same(
    kinds: tuple[type[_Plain], type[_Plain]],
) -> None:
    teacher, student = _built(*kinds)
    images = torch.randn(24, 3, 8, 8)
    method = fsc.FSKD(solve_on=0, damping=1e-6)
    made = method.align(teacher, student, images, blocks="stages")
    with torch.no_grad():
        wanted, before = teacher.end(images), student.end(images)
        student.load_state_dict(made.state_dict())
        gaps = [(given - wanted).square().sum() for given in (before, student.end(images))]
    assert gaps[1] < 0.6 * gaps[0]


def test_a_layer_that_a_shortcut_goes_past_is_no_end_for_one_that_all_passes() -> None:
    for kinds in ((_Plain, _Gated), (_Gated, _Plain), (_Residual, _Gated)):
        match = _matched(*_built(*kinds))
        assert not match.ends.meetings
        assert match.ends.left == {
            "branch": "a shortcut goes past one of it and the teacher's 'branch', not the other"
        }
    assert [each.names for each in _matched(*_built(_Gated, _Gated)).ends.meetings] == [
        ("branch", "branch")
    ]
