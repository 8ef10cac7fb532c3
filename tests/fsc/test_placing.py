"""Modules of two names: an attribute that stands in a Sequential, too, which is what is called."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from unfolded import both, off

import fsc
from fsc.channels.cutting import cut_channels, mask_channels
from fsc.channels.proof import channel_groups
from fsc.methods.solve_then_train import SolveThenTrain, solving, training
from fsc.networks.decoupling import decouple_layers
from fsc.networks.placing import put
from fsc.networks.quantized_inputs import QuantizedInputConv2d
from fsc.networks.surgery import fold_batch_norm, insert_pointwise
from fsc.schemes import Decoupling, DropBlocks, QuantizedScheme

pytestmark = pytest.mark.usefixtures("one_thread")


class Twice(nn.Module):
    """Every layer in front of the head has a second name."""

    def __init__(self, norm: type[nn.Module] = nn.BatchNorm2d) -> None:
        super().__init__()
        made = (lambda size: nn.GroupNorm(1, size)) if norm is nn.GroupNorm else norm
        self.conv, self.bn = nn.Conv2d(3, 12, 3, padding=1, bias=False), made(12)
        self.conv2, self.bn2 = nn.Conv2d(12, 8, 3, padding=1), made(8)
        self.features = nn.Sequential(
            self.conv, self.bn, nn.ReLU(), self.conv2, self.bn2, nn.ReLU()
        )
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.relu(self.conv(x))


class Residual(nn.Module):
    """Two blocks, each of two names."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.one, self.two = nn.Conv2d(3, 8, 3), Block(), Block()
        self.features = nn.Sequential(self.stem, self.one, self.two)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean((2, 3)))


def teacher() -> Twice:
    model = Twice()
    with torch.no_grad():
        model.train()(torch.randn(32, 3, 10, 10))
        for norm in (model.bn, model.bn2):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
    return model.eval()


def check_names(model: Twice) -> None:
    """Both names of each layer are of the same one."""
    places = {"conv": 0, "bn": 1, "conv2": 3, "bn2": 4}
    for name, place in places.items():
        assert getattr(model, name) is model.features[place], name


def test_every_name_is_of_the_new_module_and_others_stay() -> None:
    model, made = teacher(), nn.Identity()
    head, names = model.head, [name for name, _ in model.named_modules(remove_duplicate=False)]
    put(model, "features.1", made)
    assert model.bn is made and model.features[1] is made
    assert model.head is head
    assert [name for name, _ in model.named_modules(remove_duplicate=False)] == names
    with pytest.raises(AttributeError, match="nowhere"):
        put(model, "nowhere", made)


def test_folding_and_inserting_change_what_is_called() -> None:
    model, images = teacher(), torch.randn(4, 3, 10, 10)
    expected = model(images)
    fold_batch_norm(model)
    check_names(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert off(model(images), expected) < 1e-5
    insert_pointwise(model, "conv", 2 * torch.eye(12))
    check_names(model)
    assert off(model.features[0](images), 2 * model.conv[0](images)) < 1e-6


@pytest.mark.parametrize("keeps", [False, True], ids=["folded", "kept"])
@pytest.mark.parametrize(
    "method",
    [fsc.L1Norm(), fsc.CrossDistillation(), fsc.FSKD(), SolveThenTrain(solving(20), training(3))],
    ids=["l1", "cd", "fskd", "default"],
)
def test_students_are_near_and_their_files_come_back(
    method: fsc.methods.Method, keeps: bool, tmp_path: Path
) -> None:
    network, images = teacher(), torch.randn(8, 3, 10, 10)
    plain = fsc.compress(network, images, method="l1", pruning_ratio=0.25)
    found = fsc.compress(network, images, method=method, pruning_ratio=0.25, keep_batch_norm=keeps)
    student = found.student
    check_names(student)
    assert found.report.distance <= 1.01 * plain.report.distance
    assert isinstance(student.bn, nn.BatchNorm2d) == (keeps or isinstance(method, fsc.L1Norm))
    fsc.save(student, tmp_path / "student.safetensors")
    again = fsc.load(tmp_path / "student.safetensors", model=Twice())
    check_names(again)
    assert torch.equal(again(images), student(images))


def test_batch_norms_are_put_back_under_both_names() -> None:
    network, images = teacher(), torch.randn(8, 3, 10, 10)
    folded, kept = both(network, images, method="cd-nc", pruning_ratio=0.25)
    assert off(kept(images), folded(images)) < 1e-5
    assert list(kept.state_dict()) == list(network.state_dict())


def test_few_bits_and_decoupled_layers_come_back(tmp_path: Path) -> None:
    network, images = teacher(), torch.randn(8, 3, 10, 10)
    bits = QuantizedScheme("w4", {"conv": 4, "conv2": 4}, activation_bits=4)
    of_bits = ("cd-nc", bits, QuantizedInputConv2d)
    for method, scheme, kind in (of_bits, ("fskd", Decoupling(2), nn.Sequential)):
        student = fsc.compress(network, images, method=method, scheme=scheme).student
        check_names(student)
        assert isinstance(student.features[3], kind)
        fsc.save(student, tmp_path / "student.safetensors")
        again = fsc.load(tmp_path / "student.safetensors", model=Twice())
        check_names(again)
        assert torch.equal(again(images), student(images))


def test_decoupled_layers_are_called() -> None:
    model = Twice()
    decouple_layers(model, {"conv2": 2})
    check_names(model)


def test_a_masked_norm_is_the_one_that_is_called() -> None:
    images = torch.randn(4, 3, 10, 10)
    model = Twice(nn.GroupNorm).eval()
    groups = channel_groups(model, images)
    kept = {group.name: torch.arange(4) for group in groups if bool(group.free.all())}
    assert kept
    mask_channels(model, groups, kept)
    check_names(model)
    expected = model(images)
    cut_channels(model, groups, kept)
    check_names(model)
    assert off(model(images), expected) < 1e-5


def test_blocks_go_under_both_names(tmp_path: Path) -> None:
    network, images = Residual().eval(), torch.randn(4, 3, 10, 10)
    found = fsc.compress(network, images, method="l1", scheme=DropBlocks(count=1))
    student = found.student
    (name,) = found.report.dropped
    place = {"one": 1, "two": 2}[name]
    assert student.features[place] is getattr(student, name)
    assert not isinstance(student.features[place], Block)
    fsc.save(student, tmp_path / "student.safetensors")
    again = fsc.load(tmp_path / "student.safetensors", model=Residual())
    assert torch.equal(again(images), student(images))
