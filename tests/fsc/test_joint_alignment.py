"""FSKD-SGD: the 1x1 convolutions of all blocks trained together, then absorbed."""

import pytest
import torch
from kinds import disturbed, every_kind
from networks import chain
from torch import Tensor, nn

import fsc
from fsc.layers import pointwise_layer
from fsc.methods import JointSGD, joint_alignment
from fsc.methods.soundness import Yardstick
from fsc.schemes import Scheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


def _method(**options: object) -> fsc.FSKD:
    return fsc.FSKD(sgd=JointSGD(steps=60, batch_size=8), solve_on=0, **options)


def _images(count: int = 16) -> Tensor:
    torch.manual_seed(4)
    return torch.randn(count, 3, 8, 8)


def _gap(teacher: nn.Module, network: nn.Module, images: Tensor) -> float:
    return Yardstick(teacher, images, 8).distance(network)


@pytest.mark.parametrize("intercept", [False, True])
def test_a_pruned_student_comes_closer_and_the_same_again(intercept: bool) -> None:
    teacher, images = chain(), _images()
    method = _method(intercept=intercept)
    first, second = (
        fsc.compress(teacher, images, method=method, scheme=SCHEME).student for _ in range(2)
    )
    pruned = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=SCHEME).student
    assert _gap(teacher, first, images) < 0.7 * _gap(teacher, pruned, images)
    assert first.conv2.weight.shape == pruned.conv2.weight.shape and first.conv3.bias is None
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_what_is_trained_is_q_alone_and_what_is_absorbed_gives_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    networks: list[nn.Module] = []

    def remember(student: nn.Module, *arguments: object) -> list[float]:
        networks.append(student)
        assert {name.split("_")[0] for name, _ in student.named_parameters()} == {"fsc"}
        return trained(student, *arguments)

    trained = joint_alignment.trained
    monkeypatch.setattr(joint_alignment, "trained", remember)
    teacher, images = chain(), _images()
    student = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=SCHEME).student
    made = _method().align(teacher, student, images)
    with torch.no_grad():
        torch.testing.assert_close(made(images), networks[0](images), rtol=0, atol=1e-5)
    assert _gap(teacher, made, images) < _gap(teacher, student, images)


def test_every_kind_of_layer_is_trained_and_absorbs() -> None:
    teacher, images = every_kind(), torch.randn(16, 3, 8, 8)
    student = disturbed(teacher)
    made = _method(intercept=True).align(teacher, student, images)
    assert _gap(teacher, made, images) < _gap(teacher, student, images)
    for name, module in made.named_modules():
        if isinstance(module, nn.Linear) or hasattr(module, "groups"):
            changed = not torch.equal(module.weight, student.get_submodule(name).weight)
            mixes = pointwise_layer.mixes(module) and name != "head"
            assert changed == mixes, name


def test_values_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match="sgd must be a fsc.methods.JointSGD or None, got 3"):
        fsc.FSKD(sgd=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="views must be mirrored for FSKD, got 'hard'"):
        JointSGD(views="hard")
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        JointSGD(steps=0)


def test_a_batch_norm_in_front_of_a_convolution_is_taken_anew() -> None:
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 12, 3), nn.ReLU(), nn.Conv2d(12, 10, 3), nn.ReLU()
    behind = nn.BatchNorm2d(10), nn.Conv2d(10, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    teacher = nn.Sequential(*convs, *behind, nn.Flatten(), nn.Linear(8, 4))
    images = _images()
    with torch.no_grad():
        for _ in range(30):
            teacher.train()(images)
    teacher.eval()
    result = fsc.compress(teacher, images, method=_method(), scheme=Scheme("half", {"0": 6}))
    assert not torch.allclose(result.student[4].running_mean, teacher[4].running_mean, rtol=1e-3)


@pytest.mark.parametrize("method", [_method(), fsc.FSKD(solve_on=0)], ids=["sgd", "solved"])
def test_a_batch_norm_that_lost_channels_is_taken_anew(method: fsc.FSKD) -> None:
    torch.manual_seed(0)
    convs = nn.Conv2d(3, 12, 3), nn.ReLU(), nn.BatchNorm2d(12), nn.Conv2d(12, 10, 3), nn.ReLU()
    teacher = nn.Sequential(*convs, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(10, 4))
    images = _images()
    with torch.no_grad():
        for _ in range(30):
            teacher.train()(images)
    teacher.eval()
    result = fsc.compress(teacher, images, method=method, scheme=Scheme("half", {"0": 6}))
    assert result.student[2].num_features == 6
    assert "2" not in result.report.left


def test_where_nothing_can_be_aligned_the_student_is_as_it_was_pruned() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    images, scheme = torch.randn(20, 6), Scheme("half", {"0": 8})
    aligned, pruned = (
        fsc.compress(teacher, images, method=method, scheme=scheme).student
        for method in (_method(), fsc.L1Norm())
    )
    assert torch.equal(aligned(images), pruned(images))
