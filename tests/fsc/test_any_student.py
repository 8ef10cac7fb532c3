"""MiR takes students that somebody else has made."""

from pathlib import Path

import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc import models
from fsc.methods import schedule
from fsc.methods.soundness import Yardstick


def _narrow() -> nn.Module:
    """The chain with fewer channels, by hand."""
    student = chain()
    student.conv1, student.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    student.conv2 = nn.Conv2d(4, 5, 3, padding=1, stride=2)
    student.conv3 = nn.Conv2d(5, 7, 1, bias=False)
    student.conv4 = nn.Conv2d(7, 6, 3, padding=1)
    return student


def _other() -> nn.Module:
    """Another architecture with a head of its own, for other classes."""
    body = [nn.Conv2d(3, 16, 5, padding=2, stride=2), nn.BatchNorm2d(16), nn.Hardswish()]
    body += [nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 6, 1), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 9))


def _headless() -> nn.Module:
    return _other()[:6]


STUDENTS = {"narrow": _narrow, "other": _other, "headless": _headless}


def _given(make) -> tuple[nn.Module, nn.Module, Tensor]:
    torch.manual_seed(3)
    return chain(), make(), torch.randn(10, 3, 8, 8)


def _gap(teacher: nn.Module, network: nn.Module, images: Tensor) -> float:
    return Yardstick(teacher, images, 8).distance(network)


@pytest.mark.parametrize("make", STUDENTS.values(), ids=STUDENTS)
def test_a_student_comes_closer_and_has_the_teachers_head(make) -> None:
    teacher, student, images = _given(make)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    made = fsc.MiR(steps=80, batch_size=8).mimic(teacher, student, images)
    barely = fsc.MiR(steps=1, learning_rate=1e-9, max_retries=0).mimic(teacher, student, images)
    assert _gap(teacher, made, images) < 0.9 * _gap(teacher, barely, images)
    assert made(images).shape == (10, 4) and not made.training
    assert torch.equal(made.head.head.weight, teacher.head.weight)
    assert made.head.head.weight is not teacher.head.weight
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_the_seed_decides_what_is_drawn() -> None:
    teacher, student, images = _given(_narrow)
    first, again, other = (
        fsc.MiR(steps=3, batch_size=4).mimic(teacher, student, images, seed=seed).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(again[key], value) for key, value in first.items())
    assert not all(torch.equal(other[key], value) for key, value in first.items())


@pytest.mark.parametrize("features", ["before", "after"])
def test_a_block_may_be_dropped(features: str) -> None:
    torch.manual_seed(0)
    teacher, images = models.build("resnet20"), torch.randn(8, 3, 16, 16)
    with torch.no_grad():
        for _ in range(20):  # statistics of what it is to see
            teacher(images)
    student = models.build("resnet20").eval()
    student.load_state_dict(teacher.state_dict())
    student.layer2[1] = nn.Identity()
    method = fsc.MiR(features, steps=40)  # type: ignore[arg-type]
    made = method.mimic(teacher.eval(), student, images)
    assert _gap(teacher, made, images) < _gap(teacher, student, images)
    assert not any(name.startswith("body.layer2.1.") for name in made.state_dict())


def test_what_it_makes_is_compressed_and_saved_like_any_network(tmp_path: Path) -> None:
    teacher, student, images = _given(_narrow)
    made = fsc.MiR(steps=3).mimic(teacher, student, images)
    smaller = fsc.compress(made, images, method="l1", flops=0.7).student
    fsc.save(smaller, tmp_path / "smaller.safetensors")
    loaded = fsc.load(tmp_path / "smaller.safetensors", model=made)
    assert torch.equal(loaded(images), smaller(images))


def test_a_head_is_tuned_behind_any_student() -> None:
    teacher, student, images = _given(_other)
    method, labels = fsc.MiR(steps=20, tune_head=True), torch.arange(10) % 4
    made = method.mimic(teacher, student, images, labels=labels)
    assert not torch.equal(made.head.head.weight, teacher.head.weight)
    with pytest.raises(ValueError, match="labels must be left out for MiR, which takes none"):
        fsc.MiR(steps=1).mimic(teacher, student, images, labels=labels)


def test_interrupted_and_resumed_has_the_same_bits(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(schedule, "_STEPS_BETWEEN_LOOKS", 4)
    teacher, student, images = _given(_other)
    method = fsc.MiR(steps=20, batch_size=4)

    def stop(what: str, step: int, total: int) -> None:
        if what == "mimicking features, step" and step == 14:
            raise KeyboardInterrupt

    whole = method.mimic(teacher, student, images)
    with pytest.raises(KeyboardInterrupt):
        method.mimic(teacher, student, images, journal=tmp_path, progress=stop)
    done: list[tuple[str, int, int]] = []
    parts = method.mimic(
        teacher, student, images, journal=tmp_path, progress=lambda *event: done.append(event)
    )
    assert next(step for what, step, _ in done if what == "mimicking features, step") == 13
    for name, value in whole.state_dict().items():
        assert torch.equal(value, parts.state_dict()[name]), name
    with pytest.raises(ValueError, match="journal must belong .* another student"):
        method.mimic(teacher, _narrow(), images, journal=tmp_path)


def test_features_that_do_not_match_are_refused_in_one_sentence() -> None:
    teacher, student, images = _given(_narrow)
    student.conv4, student.head = nn.Conv2d(7, 5, 3, padding=1), nn.Linear(5, 4)
    sentence = (
        r"^student must give features of the teacher's shape, \[6, 4, 4\] before the last pooling, "
        r"got \[5, 4, 4\]$"
    )
    with pytest.raises(ValueError, match=sentence):
        fsc.MiR(steps=1).mimic(teacher, student, images)
    with pytest.raises(ValueError, match="^student must be what a teacher must be: .* finite"):
        student.conv4.weight.data[0] = torch.nan
        fsc.MiR(steps=1).mimic(teacher, student, images)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        fsc.MiR(steps=1).mimic(teacher, student, images, batch_size=0)
    with pytest.raises(TypeError, match="student must be a torch.nn.Module, got int"):
        fsc.MiR(steps=1).mimic(teacher, 3, images)  # type: ignore[arg-type]
