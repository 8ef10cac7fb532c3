"""What gram_accumulate_ refuses, and what it does with channels that are not there."""

from typing import Any

import pytest
import torch
from torch import Tensor

from fsc_ext import gram_accumulate_
from fsc_ext.testing import EMULATED, devices


def square(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.zeros(size, size, dtype=dtype)


IMAGES = torch.ones(2, 3, 4, 4)
FLOAT = square(3, torch.float32)


@pytest.mark.parametrize(
    ("arguments", "window", "message"),
    [
        (
            (None, None, None, IMAGES, IMAGES),
            {},
            "gram_student, gram_cross or gram_teacher must be given",
        ),
        ((square(3), None, None, None, IMAGES), {}, "student must be given .* got None"),
        ((None, square(3), None, IMAGES, None), {}, "teacher must be given .* got None"),
        ((square(3), None, None, IMAGES.int(), None), {}, "student must be float32 or float64"),
        ((square(3).int(), None, None, IMAGES, None), {}, "gram_student must be float32 or"),
        ((None, None, FLOAT, None, IMAGES.double()), {}, r"gram_teacher .* \(Double\), got Float"),
        ((square(3), None, None, IMAGES[0], None), {}, r"\[N, C, H, W\] or \[N, C\], got \[3, 4"),
        ((square(5), None, None, IMAGES, None), {}, r"gram_student must be \[3, 3\], or .*\[5, 5"),
        ((None, torch.zeros(4, 3), None, IMAGES, IMAGES), {}, r"gram_cross must be \[3, 3\]"),
        (
            (square(3), square(4), None, IMAGES, IMAGES),
            {},
            r"gram_cross must have a row of ones if and only if .* got \[4, 4\]",
        ),
        ((None, square(3), None, IMAGES, IMAGES[:1]), {}, "student must have the N, H and W of"),
        ((None, square(3), None, IMAGES, IMAGES.double()), {}, "student must have the dtype of"),
        ((square(75), None, None, IMAGES, None), {"kernel_size": 5}, "as large as the kernel"),
        ((square(3), None, None, IMAGES, None), {"kernel_size": 0}, r"kernel_size .* got \[0, 0\]"),
        ((square(3), None, None, IMAGES, None), {"stride": (1, 0)}, r"stride .* got \[1, 0\]"),
        (
            (square(3), None, None, IMAGES, None),
            {"padding": (-1, 0)},
            "padding must be at least 0, got",
        ),
        ((square(3), None, None, IMAGES, None), {"stride": (1, 1, 1)}, "stride must be one number"),
        ((square(3), None, None, IMAGES, None), {"dilation": 0}, "dilation must be at least 1"),
        (
            (square(1), None, None, IMAGES, None),
            {"channels_student": torch.zeros(1)},
            "channels_student must be int64, got Float",
        ),
        (
            (None, None, square(1), None, IMAGES),
            {"channels_teacher": torch.zeros(1, 1, dtype=torch.int64)},
            r"channels_teacher must be \[R\], got \[1, 1\]",
        ),
        pytest.param(
            (square(2), None, None, IMAGES, None),
            {"channels_student": torch.tensor([0, 3])},
            "channels_student must be channels from 0 to 2, got 3",
            marks=pytest.mark.skipif(EMULATED, reason="device code leaves them unread"),
        ),
        (
            (square(4), None, None, IMAGES, None),
            {"channels_student": torch.tensor([0, 1])},
            r"gram_student must be \[2, 2\], or .* got \[4, 4\]",
        ),
    ],
)
def test_bad_arguments(arguments: Any, window: Any, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        gram_accumulate_(*arguments, **window)


def test_chosen_channels_on_another_device() -> None:
    kept = torch.tensor([0, 1, 2], device="meta")
    with pytest.raises(ValueError, match="got .* channels_student on meta"):
        gram_accumulate_(square(3), None, None, IMAGES, None, channels_student=kept)


@pytest.mark.parametrize("place", range(5))
def test_two_devices(place: int) -> None:
    arguments = [square(3), square(3), square(3), IMAGES, IMAGES]
    arguments[place] = arguments[place].to("meta")
    with pytest.raises(ValueError, match="^gram_accumulate_: .* one device, got .* on meta"):
        gram_accumulate_(*arguments)


def test_gradients_are_refused() -> None:
    images = torch.ones(2, 3, 4, 4, requires_grad=True)
    with pytest.raises(RuntimeError, match="student must not require a gradient"):
        gram_accumulate_(square(3), None, None, images, None)
    with pytest.raises(RuntimeError, match="gram_student must not require a gradient"):
        gram_accumulate_(square(3).requires_grad_(), None, None, IMAGES, None)
    gram = square(3)
    with torch.no_grad():
        gram_accumulate_(gram, None, None, images, None)
    assert torch.equal(gram, torch.full((3, 3), 32.0, dtype=torch.float64))


def test_backward_refuses_sums_changed_since() -> None:
    gram, weight = square(3) + torch.eye(3).double(), torch.ones(3).double().requires_grad_()
    loss = weight @ gram @ weight
    gram_accumulate_(gram, None, None, IMAGES, None)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("device", devices(), ids=str)
def test_device_code_takes_channels_that_are_not_there_for_zeros(device: Any) -> None:
    if device.type == "cpu" and not EMULATED:
        pytest.skip("the CPU refuses them; to look at them would make a GPU's host wait")
    images = torch.randn(3, 4, 5, 5, device=device)
    listed = torch.tensor([2, 4, -1, 1], device=device)
    found = torch.zeros(4, 4, dtype=torch.float64, device=device)
    gram_accumulate_(found, None, None, images, None, channels_student=listed)
    chosen = images[:, [2, 0, 0, 1]].double()
    chosen[:, 1:3] = 0
    expected = torch.einsum("nchw,ndhw->cd", chosen, chosen)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
