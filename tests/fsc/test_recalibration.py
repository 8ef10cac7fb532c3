"""Statistics of a student's channels matched to the teacher's, and BatchNorms taken anew."""

import copy

import pytest
import torch
from torch import Tensor, nn

import fsc
from fsc.methods.recalibration import (
    ChannelStatistics,
    recalibrate,
    renormalise,
    running_norms,
)
from fsc.schemes import Scheme

DOUBLE = {"dtype": torch.float64}
LAYERS = {
    "convolution": (nn.Conv2d(4, 6, 3, groups=2), (5, 4, 6, 6)),
    "rows": (nn.Conv1d(4, 6, 3), (5, 4, 9)),
    "volumes": (nn.Conv3d(2, 3, 2), (5, 2, 3, 4, 3)),
    "transposed": (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (5, 4, 3, 3)),
    "tokens": (nn.Linear(4, 6), (5, 7, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_kind_of_layer_is_given_the_teachers_statistics(name: str) -> None:
    layer, shape = LAYERS[name]
    layer, features = layer.double(), torch.randn(shape, **DOUBLE)
    axis = -1 if isinstance(layer, nn.Linear) else 1
    with torch.no_grad():
        before = layer(features)
        wanted = 3 * torch.randn_like(before) + 1
        statistics = ChannelStatistics(axis=axis)
        for part in (slice(0, 2), slice(2, 5)):
            statistics.accumulate(wanted[part], before[part])
        change = recalibrate(layer, statistics)
        after = layer(features)
    torch.testing.assert_close(change(before), after)
    for statistic in (torch.mean, torch.std):
        found, expected = (statistic(x.movedim(axis, 0).flatten(1), 1) for x in (after, wanted))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("kind", "shape"),
    [
        (nn.BatchNorm1d, (6, 4)),
        (nn.BatchNorm1d, (6, 4, 5)),
        (nn.BatchNorm2d, (6, 4, 5, 5)),
        (nn.BatchNorm3d, (6, 4, 2, 3, 2)),
    ],
)
def test_a_batch_norm_gives_what_it_gives_in_the_teacher(
    kind: type[nn.Module], shape: tuple[int, ...], affine: bool
) -> None:
    torch.manual_seed(0)
    teacher = kind(4, affine=affine).double().eval()
    teacher.running_mean.normal_()
    teacher.running_var.uniform_(0.5, 2)
    student, inputs = copy.deepcopy(teacher), torch.randn(shape, **DOUBLE)
    drifted = 0.5 * inputs + 0.2 * torch.randn(shape, **DOUBLE) + 1
    drifted[:, 3] = 0  # a channel that went
    statistics = ChannelStatistics()
    statistics.accumulate(inputs, drifted)
    with torch.no_grad():
        renormalise(student, statistics)
        outputs = teacher(inputs), student(drifted)
    wanted, found = (output.movedim(1, 0).flatten(1)[:3] for output in outputs)
    for statistic in (torch.mean, torch.std):
        torch.testing.assert_close(statistic(found, 1), statistic(wanted, 1))
    assert student.running_mean[3] == teacher.running_mean[3]
    assert student.running_var[3] == teacher.running_var[3]


def test_inputs_that_have_not_drifted_change_nothing() -> None:
    norm = nn.BatchNorm2d(4).eval()
    norm.running_mean.normal_()
    before, inputs = copy.deepcopy(norm.state_dict()), torch.randn(6, 4, 5, 5)
    statistics = ChannelStatistics()
    statistics.accumulate(inputs, inputs)
    renormalise(norm, statistics)
    for name, tensor in norm.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


def test_channels_that_come_out_too_narrow_are_clamped() -> None:
    norm = nn.BatchNorm2d(1, eps=1.0).eval()
    norm.running_var.fill_(0.0)
    inputs = torch.randn(6, 1, 5, 5)
    statistics = ChannelStatistics()
    statistics.accumulate(10 * inputs, inputs)
    renormalise(norm, statistics)
    assert norm.running_var == 0


def test_only_norms_with_statistics_are_taken_anew() -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(3), nn.BatchNorm1d(3, track_running_stats=False), nn.InstanceNorm2d(3)
    )
    assert running_norms(model) == {"0"}


def _outputs(model: nn.Module, name: str, images: Tensor) -> Tensor:
    found: list[Tensor] = []
    handle = model.get_submodule(name).register_forward_hook(lambda *args: found.append(args[2]))
    with torch.no_grad():
        model(images)
    handle.remove()
    return found[0]


def test_a_pre_activation_network_is_closer_with_statistics_taken_anew() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(12, 10, 3, padding=1),
        nn.AvgPool2d(2),
        nn.BatchNorm2d(10),
        nn.ReLU(),
        nn.Conv2d(10, 6, 3, padding=1),
    ).eval()
    images, scheme = torch.randn(16, 3, 8, 8), Scheme("third", {"0": 4})
    with torch.no_grad():
        narrow = teacher[:4](images)
        teacher[4].running_mean.copy_(narrow.mean((0, 2, 3)))
        teacher[4].running_var.copy_(narrow.var((0, 2, 3)))
    for method in (fsc.CrossDistillation(fsc.Correction()), fsc.FSKD(solve_on=0)):
        student = fsc.compress(teacher, images, method=method, scheme=scheme).student
        wanted, found = (_outputs(net, "4", images) for net in (teacher, student))
        torch.testing.assert_close(found.mean((0, 2, 3)), wanted.mean((0, 2, 3)), rtol=0, atol=1e-4)
        torch.testing.assert_close(found.std((0, 2, 3)), wanted.std((0, 2, 3)), rtol=1e-3, atol=0)
