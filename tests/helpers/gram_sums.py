"""Windows, sums to begin with, and what gram_accumulate_ must make of them."""

from typing import Any

import torch
from torch import Tensor

from fsc_ext import reference

# A float32 panel sums up to 2048 products in an unknown order: the error grows no faster than the
# root of their number, 45 * 6e-8, relative to the norm of the matrix. Float64: the same of 1e-16.
RELATIVE_ERROR = {torch.float32: 3e-6, torch.float64: 1e-14}

WINDOWS: list[dict[str, Any]] = [
    {},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3, "stride": 2, "padding": 1},
    {"kernel_size": (3, 5), "stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
    {"kernel_size": 2, "stride": 3, "padding": 4, "dilation": 2},
    {"stride": 2},
    {"padding": 1},
]


def features(window: dict[str, Any], channels: int) -> int:
    kernel = window.get("kernel_size", 1)
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    return channels * height * width


def start(student_size: int, teacher_size: int, dtype: torch.dtype, device: Any) -> list[Tensor]:
    """Sums that hold something already: symmetric where they must be."""

    def symmetric(size: int) -> Tensor:
        half = torch.randn(size, size, dtype=dtype, device=device)
        return half + half.T

    cross = torch.randn(teacher_size, student_size, dtype=dtype, device=device)
    return [symmetric(student_size), cross, symmetric(teacher_size)]


def assert_near(actual: Tensor, expected: Tensor, bound: float) -> None:
    assert (actual.double() - expected.double()).norm() <= bound * expected.norm()


def expected_sums(
    before: list[Tensor], student: Tensor, teacher: Tensor, **window: Any
) -> list[Tensor]:
    pairs = ((student, student), (teacher, student), (teacher, teacher))
    return [
        sums.double() + reference.gram(rows, columns, **window)
        for sums, (rows, columns) in zip(before, pairs, strict=True)
    ]
