"""`keep_batch_norm=True`: the folded student with the layers of its teacher."""

import copy
import dataclasses

import pytest
import torch
from any_networks import Signal, Volume
from networks import chain, small
from torch import nn
from unfolded import ROUNDING, assert_unfolded, both, layers, net, off, seen

import fsc
from fsc.methods import Task
from fsc.methods.base import Outcome
from fsc.methods.solve_then_train import SolveThenTrain, solving, training
from fsc.networks import surgery
from fsc.schemes import Scheme

pytestmark = pytest.mark.usefixtures("one_thread")
FOLDING = {
    "cd": fsc.CrossDistillation(),
    "fskd": fsc.FSKD(solve_on=20),
    "fskd, sgd": fsc.FSKD(sgd=fsc.methods.JointSGD(steps=3), solve_on=20),
    "thinet": fsc.ThiNet(),
    "channel pruning": fsc.ChannelPruning(),
    "grail": fsc.Grail(),
    "default": SolveThenTrain(solving(20), training(3)),
}


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        *((name, torch.float64) for name in FOLDING),
        ("cd", torch.float32),
        ("default", torch.float32),
    ],
    ids=str,
)
def test_the_student_has_the_teachers_layers_and_the_outputs_of_the_folded_one(
    name: str, dtype: torch.dtype
) -> None:
    teacher, images = net(dtype), seen(dtype)
    folded, kept = both(teacher, images, method=FOLDING[name], pruning_ratio=0.3)
    assert_unfolded(folded, kept, teacher, images)
    # New images, too.
    assert_unfolded(folded, kept, teacher, seen(dtype))
    # Its shapes are those of the teacher cut by a method that never folds.
    cut = fsc.compress(teacher, images, method="l1", pruning_ratio=0.3).student
    for key, value in cut.state_dict().items():
        assert kept.state_dict()[key].shape == value.shape, key
    with torch.no_grad():
        expected = kept(images)
        assert off(kept.train()(images), expected) < ROUNDING[dtype]
        assert off(teacher.train()(images), teacher.eval()(images)) > 0.05


def test_weights_are_as_large_as_the_teachers_and_statistics_those_of_the_images() -> None:
    teacher, images = chain(), torch.randn(5, 3, 8, 8)
    with torch.no_grad():
        teacher.bn1.weight[1] = -0.7  # which keeps its sign
        teacher.bn1.weight[2] = 0.0
    folded, kept = both(teacher, images, method="cd-nc", scheme=Scheme("c2", {"conv2": 5}))
    # Nothing before conv2 has anything to correct: the filters are the teacher's own.
    own = torch.arange(8) != 2
    torch.testing.assert_close(kept.conv1.weight[own], teacher.conv1.weight[own])
    torch.testing.assert_close(
        kept.bn1.weight[own].sign(), teacher.bn1.weight[own].sign(), rtol=0, atol=0
    )
    assert not kept.conv1.weight[2].any() and kept.conv1.weight.isfinite().all()
    with torch.no_grad():
        values = kept.conv1(images)
    torch.testing.assert_close(kept.bn1.running_mean, values.mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    spread = values.var((0, 2, 3), unbiased=False)
    torch.testing.assert_close(kept.bn1.running_var[own], spread[own], rtol=1e-4, atol=1e-5)
    # It is constant on all images, and says nothing of others.
    assert kept.bn1.running_var[2] == teacher.bn1.running_var[2]
    assert off(kept(images), folded(images)) < 1e-5


def test_a_bias_is_there_where_the_teacher_has_one() -> None:
    for bias in (False, True):
        teacher = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)
        ).eval()
        images = torch.randn(4, 3, 8, 8)
        folded, kept = both(teacher, images, method="cd-nc", pruning_ratio=0.5)
        assert_unfolded(folded, kept, teacher, images)
        assert (kept[0].bias is not None) == bias
        assert not bias or (kept[0].bias.shape == (4,) and not kept[0].bias.any())


@pytest.mark.parametrize("is_trained", [False, True])
def test_a_bias_is_trained_where_the_teachers_is(is_trained: bool) -> None:
    teacher, images = net().requires_grad_(False), seen()
    teacher.inside.bias.requires_grad_(is_trained)
    _, kept = both(teacher, images, method="fskd", pruning_ratio=0.3)
    trained = [name for name, parameter in kept.named_parameters() if parameter.requires_grad]
    assert trained == ["inside.bias"] * is_trained


class SharedNorm(nn.Module):
    """A BatchNorm that two convolutions have together, and two that have their own."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3)
        self.both = nn.BatchNorm2d(8)
        self.inside, self.bn1 = nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12)
        self.out, self.bn2 = nn.Conv2d(12, 8, 3), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.both(self.two(self.both(self.one(x)).relu())).relu()
        x = self.bn2(self.out(self.bn1(self.inside(x)).relu())).relu()
        return self.head(x.mean((2, 3)))


@pytest.mark.filterwarnings("ignore::fsc.CompressionWarning")
@pytest.mark.parametrize("name", ["cd", "fskd", "thinet", "grail", "default"])
def test_a_norm_that_is_called_twice_stays_and_other_layers_are_cut(name: str) -> None:
    teacher, images = SharedNorm(), torch.randn(6, 3, 10, 10)
    teacher(torch.randn(32, 3, 10, 10))
    teacher.eval()
    plain = fsc.compress(teacher, images, method="l1", pruning_ratio=0.5)
    for keeps in (False, True):
        result = fsc.compress(
            teacher, images, method=FOLDING[name], pruning_ratio=0.5, keep_batch_norm=keeps
        )
        student, left = result.student, result.report.left
        assert isinstance(student.bn1, nn.BatchNorm2d) == keeps
        for key in ("running_mean", "running_var"):
            assert torch.equal(getattr(student.both, key), getattr(teacher.both, key)), key
        assert student.inside.out_channels == 6 and student.one.out_channels == 8
        assert plain.report.left.items() <= left.items()
        assert "layer 'both' is called more than once" in left["one"]
        assert ("its statistics stay" in left.get("both", "")) == (name == "fskd")
        assert result.report.distance < 1.1 * plain.report.distance


@pytest.mark.parametrize(("has_weight", "has_bias"), [(0, 0), (0, 1), (1, 0)])
def test_norms_without_scale_or_shift(has_weight: int, has_bias: int) -> None:
    teacher = small().double()
    teacher[1].running_mean.uniform_(-1, 1)
    teacher[1].running_var.uniform_(0.2, 2)
    teacher[1].weight.data.uniform_(-1, 1)
    teacher[1].weight = teacher[1].weight if has_weight else None
    teacher[1].bias = teacher[1].bias if has_bias else None
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    folded, kept = both(teacher.eval(), images, method="grail", pruning_ratio=0.5)
    assert_unfolded(folded, kept, teacher, images)
    own = kept[1].weight is not None, kept[1].bias is not None
    assert own == (has_weight, has_bias)


def test_norms_that_share_a_scale_have_their_own() -> None:
    teacher, images = net(), seen()
    teacher.bn3.weight = teacher.bn1.weight
    folded, kept = both(teacher, images, method="cd-nc", pruning_ratio={"inside": 0.5})
    assert_unfolded(folded, kept, teacher, images)
    assert kept.bn3.weight is not kept.bn1.weight and teacher.bn3.weight is teacher.bn1.weight


def test_it_can_be_folded_again() -> None:
    teacher, images = net(torch.float64), seen(torch.float64)
    folded, kept = both(teacher, images, method="cd-nc", pruning_ratio=0.5)
    surgery.fold_batch_norm(kept)
    assert layers(kept) == layers(folded)
    torch.testing.assert_close(dict(kept.state_dict()), dict(folded.state_dict()))


@pytest.mark.parametrize("make", [Signal, Volume], ids=["signals", "volumes"])
def test_signals_and_volumes(make: type[nn.Module]) -> None:
    teacher = make().double().eval()
    images = torch.randn(4, 3, 24) if make is Signal else torch.randn(4, 2, 8, 8, 8)
    folded, kept = both(teacher, images.double(), method="cd-nc", pruning_ratio=0.4)
    assert_unfolded(folded, kept, teacher, images.double())
    norms = [m for m in kept.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and any(m.num_features < 8 for m in norms)


def test_norms_that_are_not_folded_stay_as_they_are() -> None:
    teacher = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 6, 3), nn.ReLU(), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3),
    ).eval()  # fmt: skip
    images = torch.randn(4, 3, 12, 12)
    folded, kept = both(teacher, images, method="cd-nc", pruning_ratio=0.5)
    assert_unfolded(folded, kept, teacher, images)
    for name in ("0", "6"):
        own, other = (each.get_submodule(name).state_dict() for each in (folded, kept))
        assert own.keys() == other.keys()
        assert all(torch.equal(own[key], other[key]) for key in own), name


@pytest.mark.filterwarnings("ignore:all 2 images are the same")
@pytest.mark.parametrize("count", [1, 2])
def test_few_pixels_give_no_statistics_and_the_teachers_stay(count: int) -> None:
    teacher = nn.Sequential(
        nn.Conv2d(3, 8, 4, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)
    ).eval()
    few = torch.randn(1, 3, 4, 4).expand(count, -1, -1, -1).clone()
    folded, kept = both(teacher, few, method="grail", pruning_ratio=0.5)
    assert torch.equal(kept[1].running_var, torch.ones(4))
    assert_unfolded(folded, kept, teacher, torch.randn(5, 3, 4, 4))


@dataclasses.dataclass(frozen=True)
class Redrawn:
    """Folds, and draws one convolution anew."""

    def compress(self, task: Task) -> Outcome:
        student = copy.deepcopy(task.teacher)
        surgery.fold_batch_norm(student)
        student[0].weight.normal_()
        return Outcome(student.eval(), {})


@pytest.mark.filterwarnings("ignore:student is farther")
@pytest.mark.parametrize("closed", [1, 8])
def test_channels_that_the_teacher_shuts_off_do_not_blow_up_what_a_method_finds(
    closed: int,
) -> None:
    teacher, images = small().double().eval(), torch.randn(4, 3, 8, 8, dtype=torch.float64)
    teacher[1].weight.data[:closed] = 1e-9 if closed == 1 else 0.0
    given = {"method": Redrawn(), "scheme": Scheme("any", {"0": 4})}
    folded, kept = both(teacher, images, **given)
    assert_unfolded(folded, kept, teacher, images)
    assert kept[0].weight.abs().max() < 10


@dataclasses.dataclass(frozen=True)
class Widened:
    """Folds, and gives one layer another width than any cut does, another no bias."""

    def compress(self, task: Task) -> Outcome:
        student = copy.deepcopy(task.teacher)
        surgery.fold_batch_norm(student)
        student[0] = nn.Conv2d(3, 9, 3)
        student[3] = nn.Conv2d(9, 8, 1, bias=False)
        return Outcome(student.eval(), {})


@pytest.mark.filterwarnings("ignore:student is farther")
def test_what_cannot_be_put_back_is_said() -> None:
    teacher = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)
    ).eval()
    with pytest.warns(fsc.CompressionWarning, match="keep_batch_norm: 2 BatchNorms stay folded"):
        result = fsc.compress(
            teacher,
            torch.randn(2, 3, 8, 8),
            method=Widened(),
            pruning_ratio=0.5,
            keep_batch_norm=True,
        )
    assert result.report.left == {
        "3": "they reach the output of the network",
        "1": "'1' has 8 channels, the convolution before it 9",
        "4": "'4' does not stand behind a convolution with a bias in the student",
    }


def test_what_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(TypeError, match="keep_batch_norm must be True or False, got 'yes'"):
        fsc.compress(chain(), torch.randn(2, 3, 8, 8), flops=0.5, keep_batch_norm="yes")
