"""Cross distillation and FSKD: both rewrite a student layer by layer on the walk."""

import copy

import branching
import pytest
import torch
from networks import chain, widths
from torch import Tensor, nn

import fsc
from fsc.layers import objectives
from fsc.schemes import Scheme
from fsc.solvers import Proximal

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
UNPRUNED = Scheme("all", {"conv1": 8, "conv2": 10, "conv3": 12})
OBJECTIVES = [fsc.Estimation(), fsc.Correction(), fsc.Imitation(), fsc.Convex(), fsc.Soft()]


def _images(count: int = 6, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, 8, 8, dtype=dtype)


def _gap(teacher: nn.Module, student: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        return float((teacher(images) - student(images)).square().sum())


@pytest.mark.parametrize("axis", ["input_channels", "output_filters"])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=str)
def test_every_objective_gives_a_smaller_and_closer_student(
    objective: objectives.Objective, axis: str
) -> None:
    teacher, images = chain(), _images(32)
    before = copy.deepcopy(teacher.state_dict())
    method = fsc.CrossDistillation(objective, axis=axis)
    result = fsc.compress(teacher, images, method=method, scheme=SCHEME)
    assert widths(result.student) == {"conv1": 4, "conv2": 5, "conv3": 6, "conv4": 6}
    assert {n: len(k) for n, k in result.report.kept.items()} == SCHEME.kept
    l1 = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=SCHEME).student
    assert _gap(teacher, result.student, images) < _gap(teacher, l1, images)
    # Imitation has nothing to lose on filters that both networks lack: both errors are rounding.
    assert all(layer.error <= layer.error_before + 1e-9 for layer in result.report.layers)
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_keeping_every_channel_keeps_the_teacher() -> None:
    teacher, images = chain(torch.float64), _images(dtype=torch.float64)
    method = fsc.CrossDistillation(fsc.Estimation())
    student = fsc.compress(teacher, images, method=method, scheme=UNPRUNED).student
    torch.testing.assert_close(student(images), teacher(images))


@pytest.mark.parametrize(
    "method",
    [
        fsc.CrossDistillation(),
        fsc.CrossDistillation(axis="output_filters"),
        fsc.CrossDistillation(fsc.Convex(0.7), activation="relu"),
        fsc.CrossDistillation(solver=Proximal(steps=20), activation="relu"),
        fsc.CrossDistillation(solver=Proximal(steps=20)),
        fsc.CrossDistillation(noise=0.2),
        fsc.FSKD(solve_on=20),
    ],
    ids=["closed form", "filters", "accelerated", "relu steps", "steps", "noise", "fskd"],
)
def test_result_depends_neither_on_batches_nor_on_memory(method: fsc.methods.Method) -> None:
    teacher, images = chain(torch.float64), _images(7, torch.float64)
    whole = fsc.compress(teacher, images, method=method, scheme=SCHEME).student
    pieces = fsc.compress(
        teacher, images, method=method, scheme=SCHEME, batch_size=2, memory_budget=0
    ).student
    # Where the two networks' inputs agree, Adam steps along the rounding of the sums.
    on_sums = method == fsc.CrossDistillation(solver=Proximal(steps=20))
    tolerance = {"rtol": 0, "atol": 1e-5 if on_sums else 1e-9}
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], tensor, **tolerance)


@pytest.mark.parametrize("method", [fsc.CrossDistillation(), fsc.FSKD(solve_on=20)], ids=str)
def test_same_images_give_the_same_bits(method: fsc.methods.Method) -> None:
    teacher, images = chain(), _images()
    first, second = (
        fsc.compress(teacher, images, method=method, scheme=SCHEME).student for _ in range(2)
    )
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name


class Mixed(nn.Module):
    """Between two prunable convolutions and the head stand a depthwise and a reflecting one."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding="same")
        self.second = nn.Conv2d(8, 6, 3, padding="same", groups=groups)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.mirrored = nn.Conv2d(6, 5, 3, padding=1, padding_mode="reflect")

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.mirrored(torch.relu(self.depthwise(x)))


@pytest.mark.parametrize("method", [fsc.CrossDistillation(), fsc.FSKD(solve_on=20)], ids=str)
def test_layers_that_are_called_twice_keep_the_teachers_weight(method: fsc.methods.Method) -> None:
    teacher, images = branching.branching(branching.Twice), torch.randn(16, 3, 12, 12)
    scheme = Scheme("half", {"mixed": 3})
    with pytest.raises(ValueError, match="mixed"):
        fsc.compress(teacher, images, method=method, scheme=scheme)
    scheme = fsc.schemes.structured(teacher, 0.5, images[:1])
    result = fsc.compress(teacher, images, method=method, scheme=scheme)
    assert torch.equal(result.student.shared.weight, teacher.shared.weight)
    assert "shared" not in {layer.name for layer in result.report.layers}


def test_fskd_leaves_depthwise_layers_and_aligns_what_follows() -> None:
    teacher, images = Mixed(groups=1).eval(), _images(16)
    scheme = Scheme("half", {"first": 4})
    result = fsc.compress(teacher, images, method=fsc.FSKD(), scheme=scheme)
    assert torch.equal(result.student.depthwise.weight, teacher.depthwise.weight)
    assert [layer.name for layer in result.report.layers] == ["first", "second", "mirrored"]
    l1 = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=scheme).student
    assert _gap(teacher, result.student, images) < _gap(teacher, l1, images)


def test_a_grouped_reader_is_solved_for_what_its_groups_keep() -> None:
    teacher, images = Mixed(groups=2).eval(), _images(16)
    # Of each of the two groups of the reader the same channels go.
    scheme = Scheme("half", {"first": 4})
    result = fsc.compress(teacher, images, method=fsc.CrossDistillation(), scheme=scheme)
    second = result.student.second
    assert (second.in_channels, second.groups) == (4, 2)
    assert [layer.name for layer in result.report.layers] == ["second", "depthwise", "mirrored"]
    l1 = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=scheme).student
    assert _gap(teacher, result.student, images) < _gap(teacher, l1, images)


@pytest.mark.parametrize("kind", branching.NETWORKS, ids=lambda kind: kind.__name__)
def test_channels_that_several_layers_share(kind: type[nn.Module]) -> None:
    teacher, images = branching.branching(kind), torch.randn(24, 3, 12, 12)
    scheme = fsc.schemes.structured(teacher, 0.5, images[:1])
    l1 = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=scheme)
    fskd = fsc.compress(teacher, images, method=fsc.FSKD(solve_on=0), scheme=scheme)
    assert fskd.report.parameters < fskd.report.parameters_teacher
    for axis in ("input_channels", "output_filters"):
        method = fsc.CrossDistillation(fsc.Estimation(), axis=axis)
        result = fsc.compress(teacher, images, method=method, scheme=scheme)
        assert result.report.parameters == fskd.report.parameters
        gap, gap_l1 = (_gap(teacher, each.student, images) for each in (result, l1))
        # Where nothing behind the first cut can be solved for, the two are the same network.
        assert gap < gap_l1 or (kind is branching.Twice and gap == pytest.approx(gap_l1, abs=0.01))
    # Q = I is among the solutions that each layer chooses from.
    assert fskd.report.layers
    assert all(e.error <= e.error_before * (1 + 1e-6) + 1e-9 for e in fskd.report.layers)
