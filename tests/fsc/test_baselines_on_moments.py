"""ThiNet, Channel Pruning and Grail: what they keep, what they change, how they go on."""

import copy
from pathlib import Path

import branching
import pytest
import torch
from networks import chain
from torch import Tensor, nn

import fsc
from fsc.channels.norms import largest_first
from fsc.channels.proof import channel_groups
from fsc.methods.journal import Journal
from fsc.schemes import Scheme, SparseScheme

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
METHODS = {
    "thinet": fsc.ThiNet(),
    "thinet, weights": fsc.ThiNet("weights"),
    "channel pruning": fsc.ChannelPruning(),
    "grail": fsc.Grail(),
}
each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def _images(count: int = 24, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, 3, 8, 8, dtype=dtype)


def _gap(teacher: nn.Module, student: nn.Module, images: Tensor) -> float:
    with torch.no_grad():
        return float((teacher(images) - student(images)).square().sum())


@each_method
def test_the_student_is_smaller_and_closer_than_by_the_norm(method: fsc.methods.Method) -> None:
    teacher, images = chain(), _images()
    before = copy.deepcopy(teacher.state_dict())
    result = fsc.compress(teacher, images, method=method, scheme=SCHEME)
    assert {name: len(kept) for name, kept in result.report.kept.items()} == SCHEME.kept
    assert [layer.name for layer in result.report.layers] == ["conv2", "conv3", "conv4"]
    l1 = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=SCHEME).student
    assert _gap(teacher, result.student, images) < _gap(teacher, l1, images)
    assert result.report.distance < result.report.distance_start
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name


@each_method
def test_channels_that_are_zero_go_and_nothing_changes(method: fsc.methods.Method) -> None:
    teacher, images = chain(torch.float64), _images(dtype=torch.float64)
    gone = {"conv2": [0, 3, 4, 7, 9], "conv3": [1, 2, 5, 8, 10, 11]}
    with torch.no_grad():
        for name, channels in gone.items():
            layer = teacher.get_submodule(name)
            layer.weight.abs_()  # or the ReLU makes more of them zero
            layer.weight[channels] = 0
            if layer.bias is not None:
                layer.bias[channels] = 0
    scheme = Scheme("neutral", {"conv2": 5, "conv3": 6})
    result = fsc.compress(teacher, images, method=method, scheme=scheme)
    for name, channels in gone.items():
        assert not set(channels) & set(result.report.kept[name])
    # A ridge shrinks what it takes over; a pull towards the teacher does not.
    is_ridge = isinstance(method, fsc.Grail)
    tolerance = {"rtol": 0.01, "atol": 0.01} if is_ridge else {}
    torch.testing.assert_close(result.student(images), teacher(images), **tolerance)


@each_method
def test_layers_that_lose_no_inputs_keep_the_teachers_weight(method: fsc.methods.Method) -> None:
    teacher, images = chain(), _images()
    result = fsc.compress(teacher, images, method=method, scheme=Scheme("one", {"conv2": 5}))
    assert [layer.name for layer in result.report.layers] == ["conv3"]
    for name in ("conv4", "head"):
        kept = result.student.get_submodule(name).weight
        assert torch.equal(kept, teacher.get_submodule(name).weight), name


def test_grail_keeps_the_channels_of_largest_norm() -> None:
    teacher, images = chain(), _images()
    result = fsc.compress(teacher, images, method=fsc.Grail(), scheme=SCHEME)
    for group in channel_groups(teacher, images[:1]):
        if group.name in SCHEME.kept:
            largest = largest_first(teacher, group)[: SCHEME.kept[group.name]]
            assert result.report.kept[group.name] == sorted(largest.tolist())


@each_method
def test_fewer_pixels_than_channels(method: fsc.methods.Method) -> None:
    teacher = nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=4), nn.ReLU(), nn.Conv2d(64, 8, 3, padding=1)
    )
    images = _images(2)
    scheme = Scheme("half", {"0": 32})
    result = fsc.compress(teacher.eval(), images, method=method, scheme=scheme)
    l1 = fsc.compress(teacher, images, method=fsc.L1Norm(), scheme=scheme).student
    assert _gap(teacher, result.student, images) < _gap(teacher, l1, images)


# The other two pose the problem of a layer as ThiNet does.
@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
@pytest.mark.parametrize("method", [fsc.ThiNet(), fsc.Grail()], ids=["thinet", "grail"])
@pytest.mark.parametrize("kind", branching.NETWORKS, ids=lambda kind: kind.__name__)
def test_channels_that_several_layers_share(
    kind: type[nn.Module], method: fsc.methods.Method
) -> None:
    teacher, images = branching.branching(kind), torch.randn(24, 3, 12, 12)
    scheme = fsc.schemes.structured(teacher, 0.5, images[:1])
    result = fsc.compress(teacher, images, method=method, scheme=scheme)
    assert result.report.parameters < result.report.parameters_teacher
    with torch.no_grad():
        assert result.student(images).isfinite().all()


# What stands in a file does not depend on the method.
@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
@pytest.mark.parametrize("kind", branching.NETWORKS, ids=lambda kind: kind.__name__)
def test_students_with_channels_that_are_shared_come_back(
    kind: type[nn.Module], tmp_path: Path
) -> None:
    teacher, images = branching.branching(kind), torch.randn(4, 3, 12, 12)
    student = fsc.compress(teacher, images, method=METHODS["grail"], pruning_ratio=0.5).student
    fsc.save(student, tmp_path / "student.safetensors")
    again = fsc.load(tmp_path / "student.safetensors", model=branching.branching(kind))
    torch.testing.assert_close(again(images), student(images))


@each_method
def test_it_depends_neither_on_batches_nor_on_memory(method: fsc.methods.Method) -> None:
    teacher, images = chain(torch.float64), _images(7, torch.float64)
    whole, pieces = (
        fsc.compress(teacher, images, method=method, scheme=SCHEME, **options).student
        for options in ({}, {"batch_size": 2, "memory_budget": 0})
    )
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(pieces.state_dict()[name], tensor, rtol=0, atol=1e-9)


@each_method
def test_an_interrupted_run_goes_on_with_the_same_bits(
    method: fsc.methods.Method, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher, images = chain(), _images(6)
    arguments = {"method": method, "scheme": SCHEME}
    whole = fsc.compress(teacher, images, **arguments).student.state_dict()
    add, added = Journal.add, []

    def add_two(journal: Journal, name: str, solution: object) -> None:
        add(journal, name, solution)
        added.append(name)
        if len(added) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Journal, "add", add_two)
    with pytest.raises(KeyboardInterrupt):
        fsc.compress(teacher, images, **arguments, journal=tmp_path)
    resumed = fsc.compress(teacher, images, **arguments, journal=tmp_path).student.state_dict()
    assert added == ["conv2", "conv3", "conv4"]
    assert all(torch.equal(resumed[name], tensor) for name, tensor in whole.items())


@each_method
def test_single_weights_are_refused(method: fsc.methods.Method) -> None:
    scheme = SparseScheme("few", {"conv2": 100})
    with pytest.raises(ValueError, match=f"structured for {type(method).__name__}, got 'few'"):
        fsc.compress(chain(), _images(2), method=method, scheme=scheme)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fsc.ThiNet("all"), "reconstruction must be 'scales' or 'weights', got 'all'"),
        (lambda: fsc.ThiNet(damping=0), "damping must be finite and above 0, got 0"),
        (lambda: fsc.ChannelPruning(damping=-1), "damping must be finite and above 0, got -1"),
        (lambda: fsc.Grail(ridge=0), "ridge must be finite and above 0, got 0"),
    ],
)
def test_bad_hyper_parameters_are_refused(make, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


@each_method
@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
def test_inputs_that_no_float64_can_hold_are_named(method: fsc.methods.Method) -> None:
    with pytest.raises(ValueError, match="layer conv2 cannot be solved: .* got (Recon|Mixing)"):
        fsc.compress(chain(), 1e20 * _images(6), method=method, scheme=SCHEME)
