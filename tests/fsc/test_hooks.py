"""Hooks of layers: those that change values are a part of the network, others watch."""

import copy

import pytest
import torch
from checkpoints import with_header
from torch import nn

import fsc
from fsc.networks.tensor_files import read_tensors

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
    """What the BatchNorm reads, moved."""
    made = network()
    made[1].register_forward_pre_hook(lambda module, args: (args[0] + 1,))
    return made


class Tapped(nn.Module):
    """A forward that takes what a hook of its block kept, and another hook of it changed."""

    def __init__(self) -> None:
        super().__init__()
        self.block, self.rest = network()[:3], nn.Conv2d(8, 4, 3)
        self.block.kept = []
        self.block.register_forward_hook(lambda block, args, output: block.kept.append(output))
        self.block.register_forward_hook(lambda block, args, output: output * 2)
        self.rest.register_forward_hook(lambda rest, args, output: None)

    def forward(self, x):
        return self.rest(self.block(x) + self.block.kept.pop())


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


@pytest.fixture(scope="module")
def read_by_export(tmp_path_factory):
    """The tensors and the header of a student's file."""
    path = tmp_path_factory.mktemp("read_by_export") / "student.safetensors"
    fsc.save(fsc.compress(doubled(), IMAGES, flops=0.8, method="l1").student, path)
    return read_tensors(path)


@pytest.mark.parametrize("names", [5, [1], "abc", [None]])
def test_a_damaged_list_of_what_was_exported_is_refused(tmp_path, names, read_by_export):
    path, (state, written) = tmp_path / "student.safetensors", read_by_export
    header = {key: value for key, value in written.items() if key != "sha256"}
    assert header["read_by_export"] == ["0"]
    with_header(path, header | {"read_by_export": names}, state)
    with pytest.raises(ValueError, match="read_by_export in the header must be a list of names"):
        fsc.load(path, model=doubled())


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


def test_what_torch_fx_follows_is_not_read_by_export():
    student = fsc.compress(Tapped(), IMAGES, flops=0.8, method="l1").student
    assert type(student) is Tapped and student.rest.in_channels < 8


def test_watching_beside_a_hook_that_changes():
    teacher = doubled()
    teacher[5].register_forward_hook(lambda module, args, output: None)
    rewritten = fsc.compress(teacher, IMAGES, flops=0.8, method="l1").report.rewritten
    assert [each.name for each in rewritten] == ["0"]
