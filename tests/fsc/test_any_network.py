"""Networks of signals and volumes, of several inputs and outputs, in every state: all work."""

import math
import warnings
from typing import Any

import pytest
import torch
from any_networks import CASES, IMAGES, Branching, Heads, Plain, Signal, Tagged, Volume, images
from torch import nn

import fsc
from fsc import schemes
from fsc.channels.cutting import cut_channels, mask_channels
from fsc.channels.proof import channel_groups
from fsc.methods import mir
from fsc.networks.expected_scale import doubt_about_scale
from fsc.networks.outputs import tensors_of
from fsc.networks.plain import plain
from fsc.networks.surgery import fold_batch_norm
from fsc.training.finetuning import FineTuning, recalibrate_batch_norm

METHODS = {
    "l1": fsc.L1Norm(),
    "cd": fsc.CrossDistillation(),
    "relu": fsc.CrossDistillation(activation="relu", axis="output_filters"),
    "fskd": fsc.FSKD(iterations=2),
    "thinet": fsc.ThiNet(),
    "channel pruning": fsc.ChannelPruning(),
    "grail": fsc.Grail(),
    "mir": fsc.MiR(steps=2, learning_rate=1e-3),
}
# Every method on each number of axes, several inputs, integers, several outputs and few bits; on
# the other networks, which differ in what is done before and behind a method, one of each sort.
BY_ALL = ("signal", "volume", "layered", "tuple", "integers", "outputs_dict", "half", "bfloat16")
TRIED = [(c, m) for c in CASES for m in METHODS if c in BY_ALL or m in ("l1", "cd", "mir")]


def teacher_of(case: str) -> tuple[nn.Module, Any]:
    """The network, its BatchNorm uneven, and what it takes."""
    torch.manual_seed(0)
    make, given = CASES[case]
    teacher = make()
    with torch.no_grad():
        for module in teacher.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
    return teacher, given


def called(network: nn.Module, given: Any, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
    """What a network gives for what `fsc.compress` was given."""

    def cast(value: torch.Tensor) -> torch.Tensor:
        return value.to(dtype) if dtype is not None and value.is_floating_point() else value

    given = torch.utils._pytree.tree_map(cast, given)
    with torch.no_grad():
        if not isinstance(given, dict):
            return tensors_of(network(*given) if isinstance(given, tuple) else network(given))
        by_name = "Dict" not in type(network).__name__ and "Graph" not in type(network).__name__
        return tensors_of(network(**given) if by_name else network(given))


@pytest.mark.parametrize(("case", "method"), TRIED)
@pytest.mark.filterwarnings("ignore::fsc.warning.CompressionWarning")
def test_every_method_gives_a_smaller_student_that_takes_and_gives_the_same(case, method, tmp_path):
    teacher, given = teacher_of(case)
    modes = [module.training for module in teacher.modules()]
    gradients = [parameter.requires_grad for parameter in teacher.parameters()]
    result = fsc.compress(teacher, given, method=METHODS[method])
    report, student = result.report, result.student
    assert report.flops <= 0.5 * report.flops_teacher and report.kept
    assert math.isfinite(report.distance) and report.num_images == 6
    assert [module.training for module in teacher.modules()] == modes
    assert [parameter.requires_grad for parameter in teacher.parameters()] == gradients
    assert not any(module.training for module in student.modules())
    dtype = next(student.parameters()).dtype
    assert dtype == next(teacher.parameters()).dtype
    found = called(student, given, dtype)
    assert [x.shape for x in found] == [x.shape for x in called(teacher, given, dtype)]
    assert all(x.isfinite().all() for x in found)
    pairs = list(zip(found, called(teacher, given, dtype), strict=True))
    lost = sum(float((x - y).double().square().sum()) for x, y in pairs)
    assert lost < sum(float(y.double().square().sum()) for _, y in pairs)
    fsc.save(student, tmp_path / "student.safetensors")
    loaded = fsc.load(tmp_path / "student.safetensors", model=CASES[case][0]())
    for again, before in zip(called(loaded, given, dtype), found, strict=True):
        assert torch.equal(again, before)


@pytest.mark.parametrize("case", ["signal", "volume", "mixed", "layered", "outputs_dataclass"])
def test_sliced_is_masked(case):
    teacher, given = teacher_of(case)
    teacher = plain(teacher, given[:2]).double()
    groups = channel_groups(teacher, given[:1])
    kept = {g.name: torch.arange(0, g.size, 2) for g in groups if g.frozen is None}
    assert len(kept) >= 2
    cut, masked = (plain(teacher, given[:2].double()) for _ in range(2))
    cut_channels(cut, groups, kept)
    mask_channels(masked, groups, kept)
    pairs = zip(called(cut, given.double()), called(masked, given.double()), strict=True)
    assert all(torch.allclose(*pair, rtol=0, atol=1e-12) for pair in pairs)


@pytest.mark.parametrize("case", ["outputs_tuple", "outputs_dict", "outputs_dataclass"])
def test_what_reaches_any_output_stays(case):
    teacher, given = teacher_of(case)
    groups = {group.name: group.frozen for group in channel_groups(teacher.eval(), given[:1])}
    free = [name for name, reason in groups.items() if reason is None]
    assert free == ["stem", "body", "side"]
    assert groups["map"] == groups["classes"] == "they reach the output of the network"


def test_mir_trains_what_stands_before_every_head():
    teacher, given = teacher_of("outputs_dict")
    start = fsc.compress(teacher, given, method="l1", flops=0.7).student
    method = fsc.MiR(steps=3, learning_rate=1e-2, weight_decay=0)
    student = fsc.compress(teacher, given, method=method, flops=0.7).student
    for name, value in student.named_parameters():
        same = torch.equal(value, start.get_parameter(name))
        assert same == name.startswith(("map", "classes")), name


def test_a_branch_on_the_size_is_taken_as_for_the_example_and_said():
    rewritten = fsc.compress(Branching(), IMAGES, method="l1").report.rewritten
    assert [(r.name, r.remark) for r in rewritten] == [
        ("", "for inputs of the size of the example")
    ]


def test_neutral_cuts_of_signals_and_volumes_lose_nothing():
    for make, given in ((Signal, images(3, 30)), (Volume, images(2, 6, 6, 6))):
        torch.manual_seed(0)
        teacher = make().eval()
        half = schemes.structured(teacher, 0.5, given[:1])
        with torch.no_grad():
            for layer in (teacher.stem, teacher.inside):
                layer.weight[::2] = 0
                if layer.bias is not None:
                    layer.bias[::2] = 0
            if make is Signal:
                teacher.out.weight[::2], teacher.out.bias[::2] = 0, 0
        for method in ("l1", "fskd"):
            report = fsc.compress(teacher, given, method=method, scheme=half).report
            assert report.distance < 1e-8, (make, method)


# Of signals there are no other images.
@pytest.mark.parametrize("method", ["l1", "cd-nc", fsc.FSKD(solve_on=0)], ids=str)
def test_signals_are_compressed_as_pictures_of_one_column(method):
    teacher, given = teacher_of("signal")
    picture = Signal()
    for name, module in list(picture.named_modules()):
        if isinstance(module, nn.Conv1d):
            made = nn.Conv2d(
                module.in_channels,
                module.out_channels,
                (*module.kernel_size, 1),
                (*module.stride, 1),
                (*module.padding, 0),
                bias=module.bias is not None,
            )
            picture.set_submodule(name, made)
    picture.norm, picture.pool = nn.BatchNorm2d(8), nn.AdaptiveAvgPool2d(1)
    state = teacher.state_dict()
    wide = {n: v[..., None] if v.ndim == 3 else v for n, v in state.items()}
    picture.load_state_dict(wide)
    found = fsc.compress(teacher, given, method=method)
    expected = fsc.compress(picture, given[..., None], method=method)
    assert found.report.kept == expected.report.kept
    for name, value in expected.student.state_dict().items():
        own = found.student.state_dict()[name]
        assert torch.allclose(own, value.view(own.shape), rtol=1e-4, atol=1e-5), name


def test_pictures_and_volumes_have_mirror_images_and_signals_have_none(monkeypatch):
    lessons = []
    real = mir.Lesson
    monkeypatch.setattr(mir, "Lesson", lambda *given: lessons.append(given) or real(*given))
    for case, views in (("signal", 1), ("tuple", 1), ("volume", 2), ("subclass", 2)):
        teacher, given = teacher_of(case)
        fsc.compress(teacher, given, method=METHODS["mir"])
        seen, targets = lessons[-1][1].images, lessons[-1][1].targets
        assert len(seen) == views and [len(target) for target in targets] == [views], case
        if views == 2:
            assert torch.equal(seen[1], seen[0].flip(-1))


def test_batch_norm_of_every_dimension_is_folded_and_tells_the_scale():
    for case, kind in (("signal", nn.BatchNorm1d), ("volume", nn.BatchNorm3d)):
        teacher, given = teacher_of(case)
        teacher = teacher.eval().double()
        expected = called(teacher, given.double())[0]
        doubt = doubt_about_scale(teacher.float(), 100 * given, 4)
        assert doubt is not None and "BatchNorm, norm, reads" in doubt
        folded = plain(teacher.double(), given.double())
        fold_batch_norm(folded)
        assert not any(isinstance(module, kind) for module in folded.modules())
        assert torch.allclose(called(folded, given.double())[0], expected)


def test_single_weights_and_bits_of_signals():
    teacher, given = teacher_of("signal")
    for scheme in (schemes.sparse(teacher, 0.5), schemes.quantized(teacher, 4)):
        report = fsc.compress(teacher, given, scheme=scheme, method="cd-soft").report
        assert report.distance < 0.3 and len(report.layers) >= 3
    with pytest.raises(ValueError, match="contain a Conv2d .*, got none, with activation_bits 4"):
        schemes.quantized(teacher, 4, activation_bits=4)
    few = schemes.QuantizedScheme("few", {"stem": 4}, 4)
    with pytest.raises(ValueError, match="activation_bits must be 32 where a layer is no Conv2d"):
        fsc.compress(teacher, given, scheme=few, method="cd-soft")


def test_sparse_students_of_signals_are_fine_tuned_and_recalibrated():
    teacher, given = teacher_of("signal")
    norms = recalibrate_batch_norm(teacher, given)
    assert not torch.equal(norms.norm.running_mean, teacher.norm.running_mean)
    student = fsc.compress(
        teacher, given, scheme=schemes.sparse(teacher, 0.5), method="cd-soft"
    ).student
    tuned = FineTuning(epochs=2).run(student, given, torch.arange(6) % 5)
    for name, value in student.named_parameters():
        if value.ndim == 3:
            assert torch.equal(tuned.get_parameter(name) == 0, value == 0), name


def test_a_subclass_of_tensor_gives_the_student_of_the_tensor():
    teacher = Plain().eval()
    tagged = fsc.compress(teacher, IMAGES.as_subclass(Tagged), flops=0.6, method="cd-soft").student
    plainly = fsc.compress(teacher, IMAGES, flops=0.6, method="cd-soft").student
    for name, value in plainly.state_dict().items():
        assert torch.equal(tagged.state_dict()[name], value)
        assert type(tagged.state_dict()[name]) is type(value)


def test_constant_signals_are_doubted():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fsc.compress(Signal(), torch.ones(4, 3, 30), method="l1")
        one = torch.randn(4, 3, 30)
        one[2] = 1.0
        fsc.compress(Signal(), one, method="l1")
    for words in ("4 of 4 images are constant", "1 of 4 images is constant"):
        assert any(words in str(each.message) for each in caught)


@pytest.mark.parametrize(
    ("teacher", "given", "sentence"),
    [
        (Signal(), images(30), r"\[N, C, L\] with N at least 1 .* got .* \[6, 30\]"),
        (Signal(), images(3, 30, 1), r"floating point \[N, C, L\] .* got .* \[6, 3, 30, 1\]"),
        (Signal(), images(4, 30), "must have the 3 input channels of the network, got 4"),
        (Volume(), images(2, 6, 6), r"\[N, C, D, H, W\] .* got .* \[6, 2, 6, 6\]"),
        (Heads(), IMAGES[0], r"\[N, C, H, W\] with .* got .* \[3, 10, 10\]"),
        (nn.ReLU(), IMAGES, "must contain a layer that can lose channels, a convolution or Linear"),
    ],
)
def test_unfit_images_and_networks_are_refused(teacher, given, sentence):
    with pytest.raises(ValueError, match=sentence):
        fsc.compress(teacher, given, method="l1")
