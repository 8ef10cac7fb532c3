"""What the native loops refuse, argument by argument."""

import pytest
import torch
from torch.utils._pytree import tree_map_only

import fsc_ext
from fsc_ext.testing import devices

pytestmark = pytest.mark.parametrize("device", devices(), ids=str)

ONE = torch.ones(1, dtype=torch.float64)
SHARED_ERRORS = [
    ({"weight": torch.ones(2, 9)[:, ::3]}, "weight must be contiguous"),
    ({"weight": torch.ones(3)}, r"weight must be \[C_out, C_in, kH, kW\] or \[C_out, D\]"),
    ({"weight": torch.ones(2, 3, 1, 1).int()}, "weight must be float32 or float64"),
    ({"weight": torch.ones(2, 3, 1, 1, requires_grad=True)}, "weight must not require a gradient"),
    ({"learning_rates": torch.ones(1)}, "learning_rates must be float64 on the CPU, got Float"),
    ({"amounts": torch.ones(2).double()}, r"amounts must be \[1\], one for each step, got \[2\]"),
    ({"learning_rates": -ONE}, r"learning_rates\[0\] must be finite and at least 0, got -1"),
    ({"penalty": "topk", "amounts": 7 * ONE},
     r"amounts\[0\] must be a whole number in \[0, 6\], got 7"),
    ({"penalty": "l0"}, "penalty must be none, l1"),
    ({"optimizer": "lbfgs"}, "optimizer must be 'adam' or 'sgd', got 'lbfgs'"),
    ({"betas": (1.0, 0.9)}, r"betas must be in \[0, 1\)"),
    ({"state": []}, "state must hold 2 tensors for this optimizer, got 0"),
    ({"state": [torch.ones(2)] * 2}, "state must have the shape of weight"),
    ({"mask": torch.ones(2, 3, 1, 1).bool()}, "mask must be given with penalty topk"),
    ({"first_step": 0}, "first_step must be at least 1, got 0"),
    ({"scale": float("nan")}, "scale must be finite and at least 0, got nan"),
    ({"dim": 4}, r"dim must be in \[-4, 3\]"),
    ({"target": torch.ones(2, 3).double()}, "target must have the dtype of weight"),
]  # fmt: skip


def placed(tensor, device):
    """The same on a device, where `to` would change the strides of what is not dense."""
    place = {"dtype": tensor.dtype, "device": device}
    there = torch.empty_strided(tensor.shape, tensor.stride(), **place).copy_(tensor.detach())
    return there.requires_grad_(tensor.requires_grad)


def with_defaults(device, **arguments):
    schedule = {"learning_rates": ONE, "amounts": ONE}
    arguments = {"weight": torch.ones(2, 3, 1, 1), **arguments}
    there = tree_map_only(torch.Tensor, lambda tensor: placed(tensor, device), arguments)
    return {**schedule, **there, **{key: arguments[key] for key in schedule if key in arguments}}


@pytest.mark.parametrize(("changes", "message"), [
    *SHARED_ERRORS,
    ({"hessian": torch.ones(2, 3)}, r"hessian must be \[3, 3\], got \[2, 3\]"),
    ({"hessian": torch.ones(3, 3).double()}, "hessian must have the dtype of weight"),
    ({"target": torch.ones(3, 3)}, r"target must be \[2, 3\], got \[3, 3\]"),
])  # fmt: skip
def test_errors_on_moments(device, changes, message):
    arguments = {"hessian": torch.eye(3), "target": torch.ones(2, 3), **changes}
    with pytest.raises(RuntimeError, match="solve_quadratic_: " + message):
        fsc_ext.solve_quadratic_(**with_defaults(device, **arguments))


@pytest.mark.parametrize(("changes", "message"), [
    *SHARED_ERRORS,
    ({"input": torch.ones(4, 3, 5)}, r"input must be \[N, C_in, H, W\]"),
    ({"input": torch.ones(4, 3, 5, 5).double()}, "input must have the dtype of weight"),
    ({"input": torch.ones(0, 3, 5, 5), "target": torch.ones(0, 2, 5, 5)}, "input must hold at"),
    ({"input": torch.ones(4, 2, 5, 5)}, "weight must have C_in / groups = 2 / 1 input channels"),
    ({"target": torch.ones(4, 2, 5)}, r"target must have the layer's output shape \[4, 2, 5, 5\]"),
    ({"shortcut": torch.ones(4, 2, 1, 1)}, "shortcut must have the layer's output shape"),
    ({"bias": torch.ones(3)}, r"bias must be \[2\], got \[3\]"),
    ({"image_weight": torch.ones(3)}, r"image_weight must be \[4\], got \[3\]"),
    ({"activation": "gelu"}, "activation must be 'relu' or 'none', got 'gelu'"),
    ({"stride": 0}, "stride must be at least 1"),
    ({"batch_size": -1}, "batch_size must be at least 0, got -1"),
    ({"weight": torch.ones(0, 3, 3, 3), "target": torch.ones(4, 0, 5, 5)},
     r"weight must hold at least one value, got \[0, 3, 3, 3\]"),
])  # fmt: skip
def test_errors_on_images(device, changes, message):
    arguments = {"input": torch.ones(4, 3, 5, 5), "target": torch.ones(4, 2, 5, 5), **changes}
    with pytest.raises(RuntimeError, match="solve_relu_: " + message):
        fsc_ext.solve_relu_(**with_defaults(device, **arguments))


@pytest.mark.parametrize(("changes", "message"), [
    ({"momentum": "1"}, "momentum must hold numbers, got str"),
    ({"momentum": 10**400}, "momentum must be at most"),
    ({"betas": (0.9, None), "optimizer": "adam"}, "betas must hold numbers, got NoneType"),
    ({"hessian": torch.eye(3).requires_grad_()}, "hessian must not require a gradient"),
    ({"target": torch.ones(2, 3, requires_grad=True)}, "target must not require a gradient"),
    ({"state": [torch.zeros(2, 3, 1, 1, requires_grad=True)], "momentum": 0.5},
     r"state\[0\] must not require a gradient"),
])  # fmt: skip
def test_what_is_no_number_or_has_a_gradient_is_refused_by_name(device, changes, message):
    arguments = {"hessian": torch.eye(3), "target": torch.ones(2, 3), "optimizer": "sgd", **changes}
    with pytest.raises((TypeError, ValueError, RuntimeError), match=f"solve_quadratic_: {message}"):
        fsc_ext.solve_quadratic_(**with_defaults(device, **arguments))


@pytest.mark.parametrize(
    ("argument", "shape"),
    [("input", (4, 3, 5, 5)), ("bias", (2,)), ("shortcut", (4, 2, 5, 5)), ("image_weight", (4,))],
)
def test_what_images_are_solved_with_has_no_gradient(device, argument, shape):
    arguments = {"input": torch.ones(4, 3, 5, 5), "target": torch.ones(4, 2, 5, 5)}
    arguments[argument] = torch.ones(shape, requires_grad=True)
    with pytest.raises(RuntimeError, match=f"solve_relu_: {argument} must not require a gradient"):
        fsc_ext.solve_relu_(**with_defaults(device, **arguments))
    with torch.no_grad():
        fsc_ext.solve_relu_(**with_defaults(device, **arguments))
