"""Hooks of layers: those that change values are a part of the network, others watch."""

import copy

import pytest
import torch
from torch import nn

import fsc

IMAGES = torch.randn(6, 3, 10, 10, generator=torch.Generator().manual_seed(0))


def network() -> nn.Sequential:
    """Convolutions, a BatchNorm behind the first of them that moved."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU(),
        nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 3),
    )  # fmt: skip
    with torch.no_grad():
        made(3 * IMAGES + 1)
    return made.eval()


def doubled() -> nn.Sequential:
    """What the convolution in front of the BatchNorm gives, twice."""
    made = network()
    made[0].register_forward_hook(lambda module, args, output: output * 2)
    return made


def squashed() -> nn.Sequential:
    """What the BatchNorm gives, squashed."""
    made = network()
    made[1].register_forward_hook(lambda module, args, output: output.tanh())
    return made


def moved() -> nn.Sequential:
    """What the second convolution reads, moved."""
    made = network()
    made[3].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return made


@pytest.mark.parametrize("make", [doubled, squashed, moved])
@pytest.mark.parametrize("method", ["cd-nc", "fskd"])
def test_where_nothing_goes_nothing_changes(make, method):
    teacher = make()
    student = fsc.compress(teacher, IMAGES, flops=1.0, method=method).student
    torch.testing.assert_close(student(IMAGES), teacher(IMAGES), rtol=1e-4, atol=1e-5)


def test_the_student_of_a_network_with_hooks_comes_back_from_its_file(tmp_path):
    student = fsc.compress(doubled(), IMAGES, flops=0.8, method="l1").student
    fsc.save(student, tmp_path / "student.safetensors")
    found = fsc.load(tmp_path / "student.safetensors", model=doubled())
    assert torch.equal(found(IMAGES), student(IMAGES))
    with pytest.raises(ValueError, match="model must be the network .* with its hooks"):
        fsc.load(tmp_path / "student.safetensors", model=network())


def test_a_hook_that_watches_stays(tmp_path):
    teacher, seen = network(), []
    teacher[3].register_forward_hook(lambda module, args, output: seen.append(output))
    student = fsc.compress(teacher, IMAGES, flops=0.8, method="l1").student
    assert type(student) is nn.Sequential
    seen.clear()
    student(IMAGES)
    assert len(seen) == 1
    copy.deepcopy(teacher)(IMAGES)
    assert len(seen) == 2
