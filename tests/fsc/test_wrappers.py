"""Teachers as people hand them over: wrapped, compiled, scripted, quantized, in half precision."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from networks import chain
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.optim.swa_utils import AveragedModel

import fsc
from fsc import schemes
from fsc.networks import cost
from fsc.networks.wrappers import in_dtype_of, unwrap
from fsc.schemes import Scheme
from fsc.training.evaluate import accuracy
from fsc.walking.visitor import Layer, Visitor

SCHEME = Scheme("half", {"conv1": 4, "conv2": 5, "conv3": 6})
IMAGES = torch.randn(4, 3, 8, 8)
METHODS = [fsc.L1Norm(), fsc.CrossDistillation(), fsc.FSKD(solve_on=20), fsc.MiR(steps=2)]
WRAPPERS: list[Callable[[nn.Module], nn.Module]] = [
    nn.DataParallel,
    AveragedModel,
    lambda model: torch.compile(model, backend="eager"),
    lambda model: nn.DataParallel(torch.compile(model, backend="eager")),
    lambda model: torch.compile(nn.DataParallel(model), backend="eager"),
]
WRAPPED = pytest.mark.parametrize("wrap", WRAPPERS, ids=["parallel", "averaged", "compiled",
                                                         "both", "both_turned"])  # fmt: skip


def _compress(teacher, scheme=SCHEME, method=METHODS[1], images=IMAGES):
    return fsc.compress(teacher, images, method=method, scheme=scheme)


@WRAPPED
def test_a_wrapped_teacher_gives_the_student_of_what_it_wraps(wrap):
    teacher = chain()
    found, expected = _compress(wrap(teacher)), _compress(teacher)
    assert found.report.kept == expected.report.kept
    for name, value in expected.student.state_dict().items():
        assert torch.equal(found.student.state_dict()[name], value), name


@WRAPPED
def test_a_wrapped_network_is_evaluated_walked_and_has_schemes(wrap):
    class Names(Visitor):
        def before_run(self, layer: Layer) -> None:
            names.append(layer.name)

    names: list[str] = []
    teacher = chain()
    wrapped = wrap(teacher)
    fsc.walk(wrapped, deepcopy(teacher), IMAGES, Names())
    assert names == ["conv1", "conv2", "conv3", "conv4", "head"]
    for scheme in (schemes.structured, schemes.sparse):
        more = [IMAGES[:1]] if scheme is schemes.structured else []
        assert scheme(wrapped, 0.5, *more) == scheme(teacher, 0.5, *more)
    assert schemes.quantized(wrapped, 2) == schemes.quantized(teacher, 2)
    schemes.check(SCHEME, wrapped, torch.zeros(1, 3, 8, 8))
    labels = teacher(IMAGES).argmax(1)
    assert accuracy(wrapped, IMAGES, labels) == 100.0
    assert unwrap(wrapped) is teacher or isinstance(wrapped, AveragedModel)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
def test_half_precision_is_solved_in_float32_and_given_back(dtype, method):
    teacher = chain(dtype)
    before = deepcopy(teacher.state_dict())
    result = _compress(teacher, method=method, images=IMAGES.to(dtype))
    assert result.report.dtype == str(dtype).removeprefix("torch.")
    assert result.student.conv2.weight.shape[0] == 5
    expected = _compress(deepcopy(teacher).float(), method=method, images=IMAGES.to(dtype).float())
    assert expected.report.dtype == "float32"
    for name, value in expected.student.to(dtype).state_dict().items():
        assert torch.equal(result.student.state_dict()[name], value), name
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name])


class Shifted(nn.Module):
    """Subtracts a mean in another dtype than its own."""

    def __init__(self, mean: torch.dtype, half: torch.dtype) -> None:
        super().__init__()
        self.norm, self.body = nn.BatchNorm2d(3), chain()
        self.to(half)
        means = torch.tensor([123.675, 116.28, 103.53], dtype=mean)
        self.register_buffer("mean", means.view(1, 3, 1, 1))

    def forward(self, x):
        return self.body(self.norm((x - self.mean).to(self.norm.weight.dtype)))


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("other", [torch.float32, torch.float64])
def test_tensors_of_another_dtype_keep_it_and_every_bit(half, other):
    teacher = Shifted(other, half).eval()
    images = 100 + 50 * IMAGES
    student = fsc.compress(teacher, images.to(half), pruning_ratio=0.5, method="l1").student
    assert student.mean.dtype == other and torch.equal(student.mean, teacher.mean)
    rest = {name: x.dtype for name, x in student.state_dict().items() if x.is_floating_point()}
    assert rest.pop("mean") == other and set(rest.values()) == {half}


def test_layers_that_are_rewritten_keep_the_dtypes_of_what_they_were():
    before, after = nn.Sequential(nn.BatchNorm2d(2)), nn.Sequential(nn.Sequential())
    before.half()[0].running_mean = torch.zeros(2)
    after[0].add_module("norm", nn.BatchNorm2d(2))
    in_dtype_of(before, after)
    assert after[0].norm.running_mean.dtype == torch.float32
    assert after[0].norm.running_var.dtype == torch.float16 == after[0].norm.weight.dtype


def test_images_for_half_precision_may_be_in_float32():
    assert _compress(chain(torch.float16)).report.dtype == "float16"
    with pytest.raises(ValueError, match="images must have the dtype of the network"):
        _compress(chain(torch.float16), images=IMAGES.double())


def test_a_student_too_large_for_half_precision_is_refused(monkeypatch):
    teacher = chain(torch.float16)
    compressed = fsc.L1Norm.compress

    def too_large(self, task):
        outcome = compressed(self, task)
        nn.init.constant_(outcome.student.conv3.weight, 1e6)
        return outcome

    monkeypatch.setattr(fsc.L1Norm, "compress", too_large)
    with pytest.raises(ValueError, match=r"65504 in conv3\.weight; pass teacher\.float\(\)"):
        _compress(teacher, method=fsc.L1Norm())


@pytest.mark.parametrize("method", [*METHODS, fsc.BackProp(steps=2)])
def test_a_call_in_inference_mode_gives_what_it_gives_outside(method):
    labels = torch.arange(4) if isinstance(method, fsc.BackProp) else None
    given, teacher = {"method": method, "scheme": SCHEME}, chain()
    expected = fsc.compress(teacher, IMAGES, labels=labels, **given).student.state_dict()
    with torch.inference_mode():
        own = None if labels is None else labels.clone()
        inside = fsc.compress(teacher, IMAGES.clone(), labels=own, **given).student
        built = deepcopy(teacher)
    outside = fsc.compress(built, IMAGES, labels=labels, **given).student
    for student in (inside, outside):
        for name, value in student.state_dict().items():
            assert not value.is_inference() and torch.equal(value, expected[name]), name


def test_inference_mode_is_left_by_all_that_runs_a_network(tmp_path):
    teacher = chain()
    expected = fsc.inspect(teacher, IMAGES).to_dict()
    with torch.inference_mode():
        assert fsc.inspect(teacher, IMAGES).to_dict() == expected
        assert fsc.inspect(deepcopy(teacher), IMAGES.clone()).to_dict() == expected
        found = fsc.prune_iteratively(teacher, IMAGES, pruning_ratios=[0.5], rounds=1)
        assert torch.is_inference_mode_enabled()
        fsc.export(deepcopy(teacher), tmp_path / "teacher.pt2", IMAGES.clone())
    assert not any(value.is_inference() for value in found.student.state_dict().values())


def test_schemes_and_costs_are_found_in_inference_mode():
    def found(teacher):
        several = [schemes.structured(teacher, 0.5, IMAGES), schemes.slimming(teacher, 0.2, IMAGES)]
        for scheme in several:
            schemes.check(scheme, teacher, IMAGES)
        return several, cost.flops(teacher, IMAGES[:1])

    teacher = chain()
    expected = found(teacher)
    with torch.inference_mode():
        assert found(teacher) == expected
        built = deepcopy(teacher)
        assert found(built) == expected
    assert cost.flops(built, IMAGES[:1]) == expected[1]
    assert all(each.requires_grad for each in built.parameters())


class Learning(Visitor):
    """Takes a step of gradient descent at each layer."""

    def on_inputs(self, layer, input_teacher, input_student):
        weight = layer.student.weight
        with torch.enable_grad():
            loss = layer.student(input_student).square().mean()
            (gradient,) = torch.autograd.grad(loss, weight)
        weight.data -= 0.1 * gradient


def test_a_visitor_may_learn_in_inference_mode_and_from_images_made_there():
    teacher = chain()
    students = [deepcopy(teacher) for _ in range(3)]
    fsc.walk(teacher, students[0], IMAGES, Learning())
    with torch.inference_mode():
        images = IMAGES.clone()
        fsc.walk(teacher, students[1], images, Learning())
    fsc.walk(teacher, students[2], images, Learning())
    for student in students[1:]:
        for own, other in zip(student.parameters(), students[0].parameters(), strict=True):
            assert torch.equal(own, other) and not own.is_inference()


def test_a_traced_graph_module_is_a_teacher():
    assert _compress(torch.fx.symbolic_trace(chain())).student.conv1.out_channels == 4


def _weight_norm_of_old(model):
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model.conv3)
    return model


def _changed(change):
    def changed(model):
        change(model.conv3)
        return model

    return changed


def _quantized(model):
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def _in_two_dtypes(model):
    model.conv3.half()
    return model


def _partly_compiled(model):
    model.conv3 = torch.compile(model.conv3, backend="eager")
    return model


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (torch.jit.script, r"got a program of TorchScript .*; pass the network that it was made"),
        (lambda model: torch.jit.trace(model, IMAGES), "got a program of TorchScript"),
        (lambda model: torch.export.export(model, (IMAGES,)).module(), "got a graph of operators"),
        (_quantized, r"got the quantized layer head \(torch\.ao\..*before quantization"),
        (_in_two_dtypes, r"one dtype, got .* conv3\.weight in torch\.float16; teacher\.float\(\)"),
        (_partly_compiled, r"as a whole or not at all, got conv3 \(OptimizedModule\)"),
    ],
    ids=["script", "trace", "export", "quantized", "dtypes", "part"],
)
def test_what_cannot_be_a_teacher_is_refused_with_what_to_pass_instead(make, message):
    with pytest.raises(ValueError, match=f"teacher must .*{message}") as error:
        _compress(make(chain()))
    assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "make",
    [
        _changed(parametrizations.weight_norm),
        _weight_norm_of_old,
        _changed(nn.utils.spectral_norm),
        _changed(lambda layer: prune.l1_unstructured(layer, "weight", 0.5)),
    ],
    ids=["parametrization", "weight_norm", "spectral_norm", "prune"],
)
def test_computed_weights_are_compressed_as_what_they_are(make):
    result = _compress(make(chain()))
    assert "weight" in result.student.conv3._parameters
    assert [done.name for done in result.report.rewritten] == ["conv3"]
