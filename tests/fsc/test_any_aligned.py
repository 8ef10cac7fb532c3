"""FSKD takes students that somebody else has made."""

import copy
from collections import OrderedDict

import pytest
import torch
from kinds import disturbed, every_kind
from networks import chain
from torch import Tensor, fx, nn

import fsc
from fsc.channels.cutting import cut_channels, mask_channels
from fsc.channels.proof import channel_groups
from fsc.methods.l1_norm import largest_channels
from fsc.methods.soundness import Yardstick
from fsc.schemes import Scheme
from fsc.walking.meeting import _Side

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})


def _gap(teacher: nn.Module, network: nn.Module, images: Tensor) -> float:
    return Yardstick(teacher, images, 8).distance(network)


def _images(count: int = 16) -> Tensor:
    torch.manual_seed(4)
    return torch.randn(count, 3, 8, 8)


def _pruned(teacher: nn.Module, images: Tensor, how, scheme: Scheme = SCHEME) -> nn.Module:
    student = copy.deepcopy(teacher)
    groups = channel_groups(teacher, images[:1])
    how(student, groups, largest_channels(teacher, groups, scheme.kept))
    return student


@pytest.mark.parametrize("how", [mask_channels, cut_channels])
def test_what_was_pruned_here_is_aligned_as_compress_does(how) -> None:
    teacher, images = chain(), _images()
    method = fsc.FSKD(iterations=2, solve_on=0)
    compressed = fsc.compress(teacher, images, method=method, scheme=SCHEME).student
    student = _pruned(teacher, images, how)
    before = copy.deepcopy(student.state_dict())
    made = method.align(teacher, student, images)
    with torch.no_grad():
        torch.testing.assert_close(made(images), compressed(images), rtol=0, atol=1e-4)
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not made.training
    if how is mask_channels:
        is_dead = (made.conv2.weight.flatten(1) == 0).all(1)
        assert int(is_dead.sum()) == 5 and bool((made.conv2.bias[is_dead] == 0).all())


def test_the_seed_decides_which_images_join() -> None:
    teacher, images = chain(), _images()
    student = _pruned(teacher, images, cut_channels)
    first, again, other = (
        fsc.FSKD(solve_on=50).align(teacher, student, images, seed=seed).state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(again[key], value) for key, value in first.items())
    assert not torch.equal(other["conv2.weight"], first["conv2.weight"])


class _Decoupled(nn.Sequential):
    """A convolution as a depthwise one of so many terms and a 1x1 one behind it."""

    def __init__(self, layer: nn.Conv2d, terms: int) -> None:
        rows = layer.weight.detach().movedim(1, 0).flatten(2)  # [C_in, C_out, k^2]
        left, sizes, right = torch.linalg.svd(rows, full_matrices=False)
        channels = layer.in_channels
        deep = nn.Conv2d(
            channels, channels * terms, layer.kernel_size, layer.stride, layer.padding,
            groups=channels, bias=False,
        )  # fmt: skip
        point = nn.Conv2d(channels * terms, layer.out_channels, 1, bias=layer.bias is not None)
        with torch.no_grad():
            deep.weight.copy_(right[:, :terms].reshape(deep.weight.shape))
            mixing = (left * sizes[:, None])[:, :, :terms]  # [C_in, C_out, terms]
            point.weight.copy_(mixing.movedim(1, 0).flatten(1)[..., None, None])
            if layer.bias is not None:
                point.bias.copy_(layer.bias)
        super().__init__(deep, point)


@pytest.mark.parametrize("blocks", ["convolutions", "decoupled"])
def test_decoupled_convolutions_stand_for_those_whose_place_they_took(blocks) -> None:
    teacher, images = chain(), _images()
    student = copy.deepcopy(teacher)
    for name in ("conv2", "conv4"):
        student.set_submodule(name, _Decoupled(student.get_submodule(name), 2))
    made = fsc.FSKD(solve_on=0).align(teacher, student, images, blocks=blocks)
    assert _gap(teacher, made, images) < 0.5 * _gap(teacher, student, images)
    assert torch.equal(made.conv2[0].weight, student.conv2[0].weight)
    assert not torch.equal(made.conv2[1].weight, student.conv2[1].weight)
    assert torch.equal(made.conv3.weight, student.conv3.weight) == (blocks == "decoupled")


def test_a_network_of_another_design_is_aligned_at_the_pairs_that_are_named() -> None:
    teacher, images = chain(), _images()
    student = nn.Sequential(
        nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 6, 3, padding=1, stride=2),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    given = fsc.plain(student, images[:2])(images)
    pairs = [("conv1", "0"), ("conv4", "2")]
    # The head is still another one's.
    with pytest.warns(fsc.CompressionWarning, match="student is farther from the teacher"):
        made = fsc.FSKD(solve_on=0, damping=1e-6).align(teacher, student, images, blocks=pairs)
    with torch.no_grad():
        wanted = teacher.conv4(
            teacher.relu(teacher.conv3(teacher.relu(teacher.conv2(
                teacher.relu(teacher.bn1(teacher.conv1(images)))))))
        )  # fmt: skip
        before, after = student[:3](images), made[:3](images)
    assert (after - wanted).square().sum() < 0.7 * (before - wanted).square().sum()
    assert torch.equal(student(images), given)


def test_networks_that_share_no_names_are_aligned_in_order() -> None:
    images = _images()
    names = ("a", "b", "c", "d", "e")
    layers = (
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )  # fmt: skip
    teacher = nn.Sequential(OrderedDict(zip(names, layers, strict=True))).eval()
    student = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), *layers[3:])
    align = fsc.FSKD(solve_on=0, damping=1e-6).align
    made = align(teacher, student, images)
    assert _gap(teacher, made, images) < 0.5 * _gap(teacher, student.eval(), images)
    longer = nn.Sequential(nn.Conv2d(3, 3, 1), *student)
    with pytest.raises(ValueError, match="no names are shared, and the teacher has 2 such layers"):
        align(teacher, longer, images)


def test_every_kind_of_layer_is_aligned() -> None:
    teacher, images = every_kind(), torch.randn(16, 3, 8, 8)
    student = disturbed(teacher)
    made = fsc.FSKD(damping=1e-3, intercept=True).align(teacher, student, images)
    assert _gap(teacher, made, images) < _gap(teacher, student, images)
    assert torch.equal(made.depthwise.weight, student.depthwise.weight)
    assert torch.equal(made.head.weight, student.head.weight)


def test_channels_that_the_caller_names_are_taken() -> None:
    teacher, images = chain(), _images()
    kept = [6, 1, 3]  # in another order than the teacher has them
    student = copy.deepcopy(teacher)
    with torch.no_grad():
        student.conv2 = nn.Conv2d(8, 3, 3, padding=1, stride=2)
        student.conv2.weight.copy_(teacher.conv2.weight[kept] + 0.02)
        student.conv2.bias.copy_(teacher.conv2.bias[kept])
        student.conv3 = nn.Conv2d(3, 12, 1, bias=False)
        student.conv3.weight.copy_(teacher.conv3.weight[:, kept])
    align = fsc.FSKD(solve_on=0).align
    made = align(teacher, student, images, channels={"conv2": kept})
    assert _gap(teacher, made, images) < _gap(teacher, student, images)
    with pytest.warns(fsc.CompressionWarning, match=r"'conv2' \(its 3 filters are no copies of 3"):
        align(teacher, student, images)
    with pytest.raises(ValueError, match="channels of 'conv2' must be 3 different integers from 0"):
        align(teacher, student, images, channels={"conv2": [1, 1, 2]})
    with pytest.raises(ValueError, match="channels must name layers of the student .* got 'conv9'"):
        align(teacher, student, images, channels={"conv9": [1]})


def test_what_does_not_match_is_left_and_said() -> None:
    teacher, images = chain(), _images()
    student = copy.deepcopy(teacher)
    student.conv2, student.conv3.stride = nn.Conv2d(8, 10, 3, padding=1, stride=1), (2, 2)
    student.extra = nn.Conv2d(6, 6, 1)
    align = fsc.FSKD(solve_on=0).align
    sentence = r"left as they are: 'conv2' \(it gives \[10, 8, 8\] for an image, the teacher's"
    with pytest.warns(fsc.CompressionWarning, match=sentence):
        made = align(teacher, student, images)
    assert torch.equal(made.conv2.weight, student.conv2.weight)
    with pytest.raises(ValueError, match="^align: student must have a block .* got none: 'conv2'"):
        align(teacher, student, images, blocks=[("conv2", "conv2")])
    with pytest.raises(
        ValueError, match="blocks must name convolutions and Linears of the teacher"
    ):
        align(teacher, student, images, blocks=[("bn1", "conv2")])
    with pytest.raises(
        ValueError, match="blocks must be convolutions, residual, decoupled, stages or"
    ):
        align(teacher, student, images, blocks="all")
    with pytest.raises(TypeError, match="batch_size must be an integer, got 2.0"):
        align(teacher, student, images, batch_size=2.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="student must be a torch.nn.Module, got int"):
        align(teacher, 3, images)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^student must be what a teacher must be: .* finite"):
        student.conv4.weight.data[0] = torch.nan
        align(teacher, student, images)


def test_batches_do_not_matter_and_no_operation_runs_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    teacher, images = chain(torch.float64), _images().double()
    student = _pruned(teacher, images, cut_channels)
    method = fsc.FSKD(solve_on=0)
    made, other = (method.align(teacher, student, images, batch_size=b) for b in (16, 5))
    torch.testing.assert_close(made(images), other(images))
    told: list[tuple[str, int, int]] = []
    ran: list[str] = []
    step = _Side._run

    def counted(side: _Side, node: fx.Node, batch: int) -> Tensor:
        ran.append(f"{id(side)} {node.name} {batch}")
        return step(side, node, batch)

    monkeypatch.setattr(_Side, "_run", counted)
    method.align(teacher, student, images, progress=lambda *event: told.append(event))
    assert told == [("block", done, 4) for done in range(1, 5)]
    assert len(set(ran)) == len(ran) > 10


@pytest.mark.parametrize("blocks", [None, 3, [], [3], ["ab"], [("conv1", 3)]])
def test_blocks_of_another_type_are_refused(blocks: object) -> None:
    with pytest.raises(TypeError, match=r"blocks must be convolutions, .* or pairs of layers, got"):
        fsc.FSKD().align(chain(), chain(), torch.randn(4, 3, 8, 8), blocks=blocks)  # type: ignore[arg-type]


def test_channels_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="^channels must be a dict of layers .*, or None, got 3$"):
        fsc.FSKD().align(chain(), chain(), torch.randn(4, 3, 8, 8), channels=3)  # type: ignore[arg-type]
