"""Convolutions that read their input on a few values."""

from copy import deepcopy

import pytest
import torch
from networks import chain
from torch import nn

import fsc
from fsc import schemes
from fsc.networks import checkpoint
from fsc.networks.quantized_inputs import QuantizedInputConv2d, quantize_inputs
from fsc.networks.tracing import layer_names, trace
from fsc.schemes import QuantizedScheme
from fsc.solvers.closed_form import ClosedForm
from fsc.solvers.proximal import Proximal
from fsc.walking.input_limits import input_limits

SCHEME = QuantizedScheme("mine", {f"conv{n}": 4 for n in (1, 2, 3)}, activation_bits=3)


def test_inputs_are_clipped_and_rounded():
    convolution = nn.Conv2d(1, 1, 1, bias=False).double()
    nn.init.ones_(convolution.weight)
    layer = QuantizedInputConv2d(convolution, 1.5, 2)
    x = torch.tensor([-1.0, 0.2, 0.3, 1.1, 9.0], dtype=torch.float64).view(1, 1, 1, 5)
    expected = torch.tensor([0.0, 0.0, 0.5, 1.0, 1.5], dtype=torch.float64)
    assert torch.equal(layer(x).flatten(), expected)


@pytest.mark.parametrize("bits", [1, 3, 8])
def test_exported_it_rounds_to_the_same_bits(bits):
    layer = QuantizedInputConv2d(nn.Conv2d(1, 1, 1), 0.7, bits).eval()
    # Halfway between two values, where rounding could go either way, and beyond both ends.
    halves = (torch.arange(-3, 2**bits + 3) + 0.5) * (0.7 / (2**bits - 1))
    x = torch.cat([halves, torch.rand(20_000)]).view(1, 1, 1, -1)
    program = torch.export.export(layer, (x,)).module()
    assert torch.equal(program(x), layer(x))


def test_gradients_pass_straight_through_inside_the_limits():
    layer = QuantizedInputConv2d(nn.Conv2d(1, 1, 1), 1.0, 2)
    x = torch.tensor([-1.0, 0.2, 2.0]).view(1, 1, 1, 3).requires_grad_()
    layer(x).sum().backward()
    weight = layer.weight.item()
    assert x.grad.flatten().tolist() == [0, weight, 0]


@pytest.mark.parametrize("options", [{"stride": 2, "padding": 1}, {"groups": 2, "bias": False}])
def test_a_fine_grid_changes_nothing(options):
    convolution = nn.Conv2d(4, 6, 3, **options)
    layer = QuantizedInputConv2d(convolution, 1.0, 8)
    x = torch.randint(0, 256, (2, 4, 7, 7)) / 255
    torch.testing.assert_close(layer(x), convolution(x))
    assert layer.weight is convolution.weight and layer.bias is convolution.bias


def test_limits_are_found_behind_relus_only():
    model, images = chain().eval(), torch.randn(6, 3, 12, 12)
    names = [name for name, m in model.named_modules() if isinstance(m, nn.Conv2d)]
    limits = input_limits(model, images, names, 3, 4)
    assert "conv1" not in limits and limits
    again = input_limits(model, images, names, 3, 6)
    assert limits == pytest.approx(again)
    seen = {}
    for name in limits:
        model.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0]})
        )
    with torch.no_grad():
        model(images)
    for name, limit in limits.items():
        features = seen[name]
        assert 0.09 * features.max() < limit <= features.max() * (1 + 1e-6)

        def error(bound, features=features):
            step = bound / 7
            rounded = (features / step).round().clamp(0, 7) * step
            return float((rounded - features).square().mean())

        assert error(limit) <= min(error(float(features.max())), error(0.3 * limit))


def test_a_network_with_quantized_inputs_is_traced():
    model = chain().eval()
    names = layer_names(model, trace(model))
    quantize_inputs(model, {"conv2": 1.0}, 4)
    assert layer_names(model, trace(model)) == names


@pytest.mark.parametrize("solver", [ClosedForm(), Proximal(30)])
def test_students_read_and_hold_few_values(solver):
    teacher, images = chain().eval(), torch.randn(6, 3, 12, 12)
    before = deepcopy(teacher.state_dict())
    method = fsc.CrossDistillation(solver=solver)
    student = fsc.compress(teacher, images, method=method, scheme=SCHEME).student
    quantized = {n for n, m in student.named_modules() if isinstance(m, QuantizedInputConv2d)}
    assert quantized == {"conv2", "conv3"}
    for name in SCHEME.bits:
        weight = student.get_submodule(name).weight
        assert max(len(row.unique()) for row in weight) <= 16
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert type(teacher.conv2) is nn.Conv2d


def test_solving_for_quantized_inputs_lowers_the_error():
    torch.manual_seed(0)
    teacher, images = chain().eval(), torch.randn(16, 3, 12, 12)
    result = fsc.compress(
        teacher, images, method=fsc.CrossDistillation(fsc.Estimation()), scheme=SCHEME
    )
    for layer in result.report.layers:
        assert layer.error < layer.error_before


def test_a_saved_student_reads_the_same_values_again(tmp_path):
    teacher, images = chain().eval(), torch.randn(6, 3, 12, 12)
    student = fsc.compress(teacher, images, method=fsc.CrossDistillation(), scheme=SCHEME).student
    checkpoint.save(student, tmp_path / "student.safetensors")
    loaded = checkpoint.load(tmp_path / "student.safetensors", teacher)
    assert torch.equal(loaded(images), student(images))


@pytest.mark.parametrize("change", [{"bits": 2**62}, {"bits": 0}, {"limit": 0.0}, {"limit": -1.0}])
def test_a_damaged_file_is_refused(tmp_path, change):
    teacher = chain().eval()
    student = deepcopy(teacher)
    quantize_inputs(student, {"conv2": 1.0}, 4)
    for key, value in change.items():
        getattr(student.conv2, f"input_{key}").fill_(value)
    checkpoint.save(student, tmp_path / "student.safetensors")
    with pytest.raises(ValueError, match="unexpected: conv2.input_"):
        checkpoint.load(tmp_path / "student.safetensors", teacher)


def test_published_schemes_quantize_activations():
    scheme = schemes.named("w2a3", "vgg16")
    assert scheme.activation_bits == 3 and set(scheme.bits.values()) == {2}
    assert schemes.named("w4a32", "vgg16").activation_bits == 32
