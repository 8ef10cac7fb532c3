"""`keep_batch_norm=True` with every kind of scheme and input; files, journals, and training on."""

import copy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from any_networks import IMAGES
from networks import chain
from on_digits import digits, trained_vgg
from torch import Tensor, nn
from unfolded import Net, assert_unfolded, both, layers, net, off, seen

import fsc
from fsc import models, schemes
from fsc.methods.identity import AnotherCompression
from fsc.methods.solve_then_train import SolveThenTrain, solving, training
from fsc.schemes import Decoupling, DropBlocks, QuantizedScheme, Scheme
from fsc.training import supervised
from fsc.training.evaluate import accuracy

pytestmark = pytest.mark.usefixtures("one_thread")
SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
DEFAULT = SolveThenTrain(solving(20), training(3))


@pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")
@pytest.mark.parametrize("method", [fsc.MiR(steps=2), fsc.L1Norm(), fsc.KD(steps=2)])
def test_methods_that_never_fold_give_the_bits_that_they_give_without_it(
    method: fsc.methods.Method,
) -> None:
    teacher, images = chain(), torch.randn(4, 3, 8, 8)
    plain, kept = both(teacher, images, method=method, scheme=SCHEME)
    assert layers(plain) == layers(kept) == layers(teacher)
    for key, value in plain.state_dict().items():
        assert torch.equal(value, kept.state_dict()[key]), key


def test_zeros_stay_zeros() -> None:
    teacher, images = net(), seen()
    folded, kept = both(teacher, images, method="cd-nc", scheme=schemes.sparse(teacher, 0.8))
    assert_unfolded(folded, kept, teacher, images)
    for name, module in kept.named_modules():
        if isinstance(module, nn.Conv2d):
            zeros = folded.get_submodule(name).weight == 0
            assert torch.equal(module.weight == 0, zeros) and zeros.any(), name


@pytest.mark.parametrize("bits", [4, 32])
def test_quantized_rows_have_as_few_values_as_before(bits: int) -> None:
    teacher, images = net(), seen()
    names = ("inside", "out", "pointwise")
    scheme = QuantizedScheme("w2", dict.fromkeys(names, 2), activation_bits=bits)
    folded, kept = both(teacher, images, method="cd-nc", scheme=scheme)
    with torch.no_grad():
        assert off(kept(images), folded(images)) < 1e-3  # a value may be rounded the other way
    for name in names:
        rows = kept.get_submodule(name).weight.flatten(1)
        assert max(len(row.unique()) for row in rows) <= 4, name
    assert [n for n, m in layers(kept) if m is nn.BatchNorm2d] == [
        n for n, m in layers(teacher) if m is nn.BatchNorm2d
    ]


@pytest.mark.parametrize("method", [fsc.FSKD(solve_on=20), DEFAULT], ids=["fskd", "default"])
def test_decoupled_layers_have_their_norm_behind_the_pointwise_one(
    method: fsc.methods.Method, tmp_path: Path
) -> None:
    teacher, images = net(), seen()
    folded, kept = both(teacher, images, method=method, scheme=Decoupling(2))
    with torch.no_grad():
        assert off(kept(images), folded(images)) < 1e-5
    assert isinstance(kept.out, nn.Sequential) and isinstance(kept.bn3, nn.BatchNorm2d)
    assert kept.out.pointwise.bias is None
    assert not kept.inside.pointwise.bias.any()  # the teacher has one there
    fsc.save(kept, tmp_path / "student.safetensors")
    again = fsc.load(tmp_path / "student.safetensors", model=Net())
    assert torch.equal(again(images), kept(images))


def test_without_blocks_nothing_was_folded() -> None:
    teacher, images = models.build("resnet14").eval(), torch.randn(6, 3, 8, 8)
    plain, kept = both(teacher, images, method=DEFAULT, scheme=DropBlocks(count=1))
    for key, value in plain.state_dict().items():
        assert torch.equal(value, kept.state_dict()[key]), key


@pytest.mark.parametrize("name", ["resnet14", ""], ids=["by name", "by the network"])
def test_a_file_holds_it_for_the_network_as_it_was(name: str, tmp_path: Path) -> None:
    teacher = models.build(name).eval() if name else net()
    images, method = seen(), fsc.FSKD(solve_on=0)
    student = fsc.compress(
        teacher, images, method=method, pruning_ratio=0.3, keep_batch_norm=True
    ).student
    fsc.save(student, tmp_path / "student.safetensors", name=name)
    factory = None if name else Net()
    again = fsc.load(tmp_path / "student.safetensors", model=factory)
    assert torch.equal(again(images), student(images)) and layers(again) == layers(teacher)
    again.load_state_dict(student.state_dict())


def test_half_precision_comes_back() -> None:
    teacher, images = net().bfloat16(), seen()
    folded, kept = both(teacher, images, method="cd-nc", pruning_ratio=0.3)
    assert {value.dtype for value in kept.parameters()} == {torch.bfloat16}
    assert layers(kept) == layers(teacher)
    with torch.no_grad():
        outputs = [each(images.bfloat16()).float() for each in (kept, folded)]
    assert off(*outputs) < 0.05


class Two(nn.Module):
    """An image and a mask, each with a BatchNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.one = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.b, self.two = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8)
        self.c, self.three = nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 5)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        x = F.relu(self.one(self.a(image)) + self.two(self.b(mask)))
        return self.head(F.relu(self.three(self.c(x))).mean((2, 3)))


def test_networks_of_several_inputs() -> None:
    teacher, given = Two().eval(), (IMAGES, torch.randn(6, 1, 10, 10))
    folded, kept = both(teacher, given, method="cd-nc", pruning_ratio=0.5)
    assert layers(kept) == layers(teacher) and type(kept) is Two
    with torch.no_grad():
        assert off(kept(*given), folded(*given)) < 1e-5
        expected = kept(*given)
        assert off(kept.train()(*given), expected) < 1e-5


def test_an_ordinary_loop_trains_it_as_it_trains_the_teacher() -> None:
    teacher, (images, labels), test = trained_vgg(1, 1, 1), digits("train"), digits("test")
    images, labels = images[:100], labels[:100]
    students = both(teacher, images, method="cd-nc", flops=0.6)
    found = []
    for student in students:
        before, trained = accuracy(student, *test), copy.deepcopy(student)
        torch.manual_seed(0)
        supervised.train(trained, images, labels, epochs=1, batch_size=32, learning_rate=0.05)
        found.append((before, accuracy(trained, *test)))
    (solved, lost), (kept, trained) = found
    assert kept == solved > 80
    assert trained > solved - 5 and lost < solved - 10


def test_a_journal_is_of_one_choice(tmp_path: Path) -> None:
    teacher, images = chain(), torch.randn(4, 3, 8, 8)
    given = {"method": "cd-soft", "scheme": SCHEME, "journal": tmp_path / "journal"}
    first = fsc.compress(teacher, images, keep_batch_norm=True, **given).student.state_dict()
    again = fsc.compress(teacher, images, keep_batch_norm=True, **given).student.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in first.items())
    with pytest.raises(AnotherCompression, match="of one with another keep_batch_norm"):
        fsc.compress(teacher, images, **given)
