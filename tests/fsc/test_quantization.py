"""Weights on few bits: schemes, solvers and the method."""

import pytest
import torch
from networks import chain

import fsc
import fsc_ext
from fsc import models, schemes
from fsc.layers.moments import Columns, Moments
from fsc.layers.objectives import Estimation
from fsc.schemes import QuantizedScheme, check_quantized
from fsc.solvers import Accelerated, ClosedForm, Proximal
from fsc.solvers.patch import Patch
from fsc.solvers.quantization import quantize_by_steps, quantize_closed_form

PATCH = Patch(6, (3, 3), padding=(1, 1), bias=True)
SCHEME = QuantizedScheme("mine", {"conv1": 3, "conv2": 2, "conv3": 2})


@pytest.fixture(params=[Moments, Columns])
def problem(request):
    """A layer's objective in both forms and the teacher's weight [8, 55]."""
    torch.manual_seed(0)
    teacher = torch.randn(5, 6, 6, 6, dtype=torch.float64)
    teacher[:, 1] = teacher[:, 0] + 0.1 * teacher[:, 1]
    weight = torch.randn(8, PATCH.dim, dtype=torch.float64)
    statistics = request.param(PATCH)
    statistics.accumulate(teacher, teacher + 0.1 * torch.randn_like(teacher))
    return statistics.quadratic(Estimation(), weight), weight


def values_of(weight):
    return [len(row.unique()) for row in weight.detach().flatten(1)]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_passing_errors_on_is_better_than_rounding(problem, bits):
    quadratic, teacher = problem
    found = [
        quantize_closed_form(quadratic, teacher, PATCH.dim - 1, bits, selection, 0.1)
        for selection in ("obs", "norm")
    ]
    assert max(values_of(found[0][:, :-1])) <= 2**bits
    assert torch.equal(found[1][:, :-1], fsc_ext.quantize_weight(teacher[:, :-1], bits))
    assert quadratic.loss(found[0]) < 0.75 * quadratic.loss(found[1])


def test_blocks_change_nothing(problem, monkeypatch):
    quadratic, teacher = problem
    whole = quantize_closed_form(quadratic, teacher, PATCH.dim - 1, 2, "obs", 0.1)
    monkeypatch.setattr("fsc.solvers.quantization._BLOCK", 1)
    single = quantize_closed_form(quadratic, teacher, PATCH.dim - 1, 2, "obs", 0.1)
    torch.testing.assert_close(whole, single)


def test_constant_channels_stay(problem):
    quadratic, teacher = problem
    teacher = teacher.clone()
    teacher[0] = 0
    found = quantize_closed_form(quadratic, teacher, PATCH.dim - 1, 2, "norm", 0.1)
    assert not found[0].any() and found.isfinite().all()


@pytest.mark.parametrize(
    "solver",
    [
        Proximal(steps=200),
        Proximal(steps=200, projection="soft"),
        Proximal(steps=200, learning_rate=1e-5, optimizer="sgd", momentum=0.5),
    ],
    ids=["straight through", "ProxQuant", "sgd"],
)
def test_steps_end_on_the_grid_below_rounding(problem, solver):
    quadratic, teacher = problem
    steps = []
    found = quantize_by_steps(solver, quadratic, teacher, PATCH.dim - 1, 4, steps.append)
    rounded = quantize_closed_form(quadratic, teacher, PATCH.dim - 1, 4, "norm", 0.1)
    assert max(values_of(found[:, :-1])) <= 16
    assert torch.equal(found[:, -1], teacher[:, -1])
    assert steps == list(range(1, 201))
    assert quadratic.loss(found) < quadratic.loss(rounded)


@pytest.mark.parametrize("objective", [fsc.Convex(0.7), fsc.Soft(), fsc.Estimation()], ids=str)
@pytest.mark.parametrize("solver", [None, Proximal(steps=20)], ids=["closed form", "steps"])
def test_students_have_few_values_a_channel(objective, solver):
    teacher = chain().eval()
    images = torch.randn(6, 3, 12, 12)
    method = fsc.CrossDistillation(objective, solver)
    result = fsc.compress(teacher, images, method=method, scheme=SCHEME)
    layers = dict(result.student.named_modules())
    for name, bits in SCHEME.bits.items():
        assert max(values_of(layers[name].weight)) <= 2**bits
    assert max(values_of(layers["conv4"].weight)) > 4
    assert result.report.parameters == sum(p.numel() for p in result.student.parameters())
    assert [layer.name for layer in result.report.layers][:3] == ["conv1", "conv2", "conv3"]


def test_published_schemes_name_every_convolution():
    scheme = schemes.named("w2a32", "resnet20")
    assert scheme == QuantizedScheme("w2a32", dict.fromkeys(scheme.bits, 2))
    assert len(scheme.bits) == 19
    ignored = schemes.quantized(models.build("resnet20"), 4, ignored=["conv1"])
    assert "conv1" not in ignored.bits and ignored.name == "w4a32"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: schemes.quantized(m, 0), r"quantized: bits must be in \[1, 8\], got 0"),
        (lambda m: schemes.quantized(m, 2, ["fc"]), "ignored must name convolutions .* got 'fc'"),
        (lambda m: schemes.quantized(m, 2, activation_bits=9), r"or 32, got 9"),
        (
            lambda m: check_quantized(QuantizedScheme("s", {"conv1": 2}, 0), m),
            "or 32, got 0",
        ),
        (lambda m: check_quantized(QuantizedScheme("s", {}), m), "'s' quantizes no layer"),
        (
            lambda m: check_quantized(QuantizedScheme("s", {"no": 2}), m),
            "must be a convolution .* none",
        ),
        (
            lambda m: check_quantized(QuantizedScheme("s", {"conv1": 9}), m),
            "1 to 8 bits, got 9",
        ),
    ],
)
def test_schemes_that_do_not_fit(make, message):
    with pytest.raises(ValueError, match=message):
        make(chain())


@pytest.mark.parametrize(
    ("method", "message"),
    [
        (fsc.FSKD(), "scheme must be structured for FSKD, got 'mine', which removes no"),
        (fsc.L1Norm(), "scheme must be structured for L1Norm, got 'mine', which removes no"),
        (fsc.CrossDistillation(activation="relu"), "activation must be 'none' for a quantized"),
        (fsc.CrossDistillation(solver=Accelerated(), activation="relu"), "activation must be"),
        (fsc.CrossDistillation(solver=Proximal(batch_size=2)), "batch_size must be 0 for a quant"),
    ],
)
def test_methods_that_cannot_quantize(method, message):
    with pytest.raises(ValueError, match=message):
        fsc.compress(chain().eval(), torch.randn(4, 3, 12, 12), method=method, scheme=SCHEME)


def test_a_solver_is_a_closed_form_by_default():
    teacher, images = chain().eval(), torch.randn(6, 3, 12, 12)
    results = [
        fsc.compress(teacher, images, method=fsc.CrossDistillation(solver=s), scheme=SCHEME)
        for s in (None, ClosedForm())
    ]
    first, second = (result.student.state_dict() for result in results)
    assert all(torch.equal(first[name], second[name]) for name in first)
