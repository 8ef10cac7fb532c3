"""What the cross distillation operators say about bad input."""

from typing import Any

import pytest
import torch
from torch import Tensor

import fsc_ext
from fsc_ext.testing import devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)
NAMES = ["input_teacher", "input_student", "weight_teacher", "weight_student"]


def good_arguments(device: torch.device) -> dict[str, Any]:
    shapes = [(2, 4, 8, 7), (2, 4, 8, 7), (6, 4, 3, 3), (6, 4, 3, 3)]
    arguments = {name: torch.randn(s, device=device) for name, s in zip(NAMES, shapes, strict=True)}
    return arguments | {"bias_teacher": None, "bias_student": None}


LAYER_ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"input_teacher": (4, 8, 7), "input_student": (4, 8, 7)}, r"input_student must be \[N, C_in"),
    ({"input_student": (2, 4, 8, 8)}, r"input_student must have the shape .*\[2, 4, 8, 7\], got"),
    ({"input_student": torch.float64}, "input_student must have the dtype of input_teacher"),
    ({"input_teacher": torch.int64}, "input_teacher must be float32 or float64.*got Long"),
    ({"weight_teacher": torch.float64}, "weight_teacher must have the dtype of input_student"),
    ({"weight_student": torch.float64}, "weight_student must have the dtype of input_student"),
    ({"weight_student": (6, 4, 3)}, r"weight_student must be \[C_out, C_in / groups, kH, kW\]"),
    ({"weight_teacher": (6, 5, 3, 3)}, r"weight_teacher must have C_in / groups = 4 / 1 .*got \[6"),
    ({"weight_student": (6, 2, 3, 3)}, r"weight_student must have C_in / groups = 4 / 1 .*got \[6"),
    ({"weight_student": (5, 4, 3, 3)}, r"weight_student must give .*\[2, 6, 6, 5\], got \[2, 5"),
    ({"weight_student": (6, 4, 1, 1)}, r"weight_student must give .*\[2, 6, 6, 5\], got \[2, 6, 8"),
    ({"weight_teacher": (6, 4, 9, 1)}, "weight_teacher must have a kernel that fits"),
    ({"weight_teacher": (6, 4, 0, 1)}, "weight_teacher must hold at least one value"),
    ({"bias_teacher": (5,)}, r"bias_teacher must be \[6\], got \[5\]"),
    ({"bias_student": (6, 1)}, r"bias_student must be \[6\], got \[6, 1\]"),
    ({"groups": 3}, "groups must divide the 4 channels of input_student, got 3"),
    ({"groups": 0}, "groups must divide the 4 channels of input_student, got 0"),
    ({"groups": 4, "weight_teacher": (6, 1, 3, 3)}, "groups must divide the 6 output channels"),
    ({"alpha": 1.5}, r"alpha must be in \[0, 1\], got 1.5"),
    ({"alpha": float("nan")}, r"alpha must be in \[0, 1\], got nan"),
    ({"beta": -0.1}, r"beta must be in \[0, 1\], got -0.1"),
    ({"activation": "gelu"}, "activation must be 'relu' or 'none', got 'gelu'"),
    ({"stride": 0}, r"stride must be at least 1, got \[0, 0\]"),
    ({"stride": (1, 1, 1)}, r"stride must be an int or a pair of ints, got \[1, 1, 1\]"),
    ({"padding": (0, -1)}, r"padding must be at least 0, got \[0, -1\]"),
    ({"dilation": -1}, r"dilation must be at least 1, got \[-1, -1\]"),
]


@pytest.mark.parametrize(("change", "message"), LAYER_ERRORS, ids=lambda value: str(value)[:40])
def test_layer_errors(device, change, message):
    arguments = good_arguments(device)
    for name, value in change.items():
        if isinstance(value, torch.dtype):
            arguments[name] = arguments[name].to(value)
        elif isinstance(value, tuple) and name not in ("stride", "padding", "dilation"):
            arguments[name] = torch.randn(value, device=device)
        else:
            arguments[name] = value
    with pytest.raises(RuntimeError, match=f"^cross_distill_layer: {message}"):
        fsc_ext.cross_distill_layer(**arguments)


def test_good_arguments_raise_nothing(device):
    assert fsc_ext.cross_distill_layer(**good_arguments(device)).isfinite()


@pytest.mark.parametrize("name", [*NAMES[1:], "bias_student"])
def test_layer_device(device, name):
    arguments = good_arguments(device)
    arguments[name] = torch.empty(2, 4, 8, 7, device="meta")
    with pytest.raises(ValueError, match=f"must be on one device, got .*{name} on meta"):
        fsc_ext.cross_distill_layer(**arguments)


def test_mix_errors(device):
    def mix(teacher: Tensor, student: Tensor, alpha: float = 0.5, beta: float = 0.5) -> None:
        fsc_ext.soft_cross_mix(teacher, student, alpha, beta)

    x = torch.randn(2, 3, device=device)
    with pytest.raises(RuntimeError, match=r"^soft_cross_mix: input_student must have the shape"):
        mix(x, x[:1])
    with pytest.raises(RuntimeError, match="^soft_cross_mix: input_student must have the dtype"):
        mix(x, x.double())
    with pytest.raises(RuntimeError, match="^soft_cross_mix: input_teacher must be float32"):
        mix(x.int(), x.int())
    with pytest.raises(RuntimeError, match=r"^soft_cross_mix: alpha must be in \[0, 1\], got -1"):
        mix(x, x, alpha=-1)
    with pytest.raises(RuntimeError, match=r"^soft_cross_mix: beta must be in \[0, 1\], got 2"):
        mix(x, x, beta=2)
    with pytest.raises(ValueError, match="^soft_cross_mix: all tensors must be on one device"):
        mix(x, x.to("meta"))


def test_residual_errors(device):
    x = torch.randn(2, 3, device=device)
    with pytest.raises(RuntimeError, match="^distill_residual: target must have the shape"):
        fsc_ext.distill_residual(x, x[:1])
    with pytest.raises(RuntimeError, match="^distill_residual: target must have the dtype"):
        fsc_ext.distill_residual(x, x.double())
    with pytest.raises(RuntimeError, match="^distill_residual: preactivation must be float32"):
        fsc_ext.distill_residual(x.int(), x.int())
    with pytest.raises(
        RuntimeError, match="^distill_residual: activation must be 'relu' or 'none'"
    ):
        fsc_ext.distill_residual(x, x, "tanh")
    with pytest.raises(RuntimeError, match="^distill_residual: target must not require a gradient"):
        fsc_ext.distill_residual(x, x.clone().requires_grad_())
    with pytest.raises(ValueError, match="^distill_residual: all tensors must be on one device"):
        fsc_ext.distill_residual(x, x.to("meta"))


@pytest.mark.parametrize("name", ["stride", "padding", "dilation"])
def test_steps_that_no_image_has(device, name):
    """Sizes made of them would pass 2^63, or the memory of any machine."""
    for call in (
        lambda **moves: fsc_ext.cross_distill_layer(**{**good_arguments(device), **moves}),
        lambda **moves: fsc_ext.gram_accumulate_(
            torch.zeros(1, 1), None, None, torch.ones(1, 1, 2, 2), None, **moves
        ),
    ):
        with pytest.raises(RuntimeError, match=f": {name} must be at most 16777216, got "):
            call(**{name: 2**40})


@pytest.mark.parametrize("name", ["weight_teacher", "weight_student"])
def test_no_filters(device, name):
    arguments = good_arguments(device)
    arguments[name] = arguments[name][:0]
    message = f"^cross_distill_layer: {name} must hold at least one value, got "
    with pytest.raises(RuntimeError, match=message):
        fsc_ext.cross_distill_layer(**arguments)


def test_gradients_that_do_not_exist(device):
    arguments = good_arguments(device)
    arguments["weight_student"].requires_grad_()
    preactivation = torch.randn(5, device=device, requires_grad=True)
    loss, residual = fsc_ext.distill_residual(preactivation, torch.zeros(5, device=device))
    assert loss.requires_grad and not residual.requires_grad
    for once, leaf in [
        (loss, preactivation),
        (fsc_ext.cross_distill_layer(**arguments), arguments["weight_student"]),
    ]:
        (gradient,) = torch.autograd.grad(once, leaf, create_graph=True)
        with pytest.raises(RuntimeError):
            gradient.sum().backward()


@pytest.mark.parametrize("kernel", [(2, 1), (1, 2), (1, 1)])
def test_dilations_of_kernels_of_one_pixel_mean_nothing(device, kernel):
    # oneDNN reads beyond the image there.
    x = torch.randn(4, 3, 2, 2, device=device).contiguous(memory_format=torch.channels_last)
    weights = torch.randn(2, 3, 3, *kernel, device=device)
    places = {"stride": (1, 2), "padding": 1}
    found, wanted = (
        fsc_ext.cross_distill_layer(x, x, *weights, **places, dilation=dilation)
        for dilation in ((2, 2), tuple(2 if size > 1 else 1 for size in kernel))
    )
    assert torch.equal(found, wanted)
