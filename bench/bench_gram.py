"""gram_accumulate_ at real layer shapes against the reference and plain matrix products."""

from typing import Any

import pytest
import torch
from baselines import compiled
from torch import Tensor
from torch.nn.functional import unfold

from fsc_ext import gram_accumulate_, reference

# N, C_S, C_T, H = W: block outputs of ResNet-56 and VGG-16, aligned by a 1x1 convolution.
POINTWISE = [(100, 32, 64, 32), (100, 128, 128, 16), (100, 256, 256, 8), (100, 512, 512, 2)]
# The inputs of their 3x3 convolutions.
WINDOWED = [(50, 16, 16, 32), (50, 32, 32, 16), (50, 64, 64, 8), (50, 128, 128, 8)]
SHAPES = [(1, *shape) for shape in POINTWISE] + [(3, *shape) for shape in WINDOWED]


def columns(images: Tensor, kernel: int) -> Tensor:
    """The whole im2col matrix at once: [C * kH * kW, N * H * W]."""
    if kernel > 1:
        return unfold(images, kernel, padding=kernel // 2).transpose(0, 1).flatten(1)
    return images.transpose(0, 1).flatten(1)


def fused(sums: list[Tensor], student: Tensor, teacher: Tensor, kernel: int) -> None:
    gram_accumulate_(*sums, student, teacher, kernel_size=kernel, padding=kernel // 2)


def plain(
    sums: list[Tensor], student: Tensor, teacher: Tensor, kernel: int, dtype: torch.dtype
) -> None:
    student_columns = columns(student.to(dtype), kernel)
    teacher_columns = columns(teacher.to(dtype), kernel)
    sums[0].add_(student_columns @ student_columns.T)
    sums[1].add_(teacher_columns @ student_columns.T)
    sums[2].add_(teacher_columns @ teacher_columns.T)


def plain_float32(*arguments: Any) -> None:
    plain(*arguments, torch.float32)


def plain_float64(*arguments: Any) -> None:
    plain(*arguments, torch.float64)


def naive_reference(sums: list[Tensor], student: Tensor, teacher: Tensor, kernel: int) -> None:
    window = {"kernel_size": kernel, "padding": kernel // 2}
    sums[0].add_(reference.gram(student, student, **window))
    sums[1].add_(reference.gram(teacher, student, **window))
    sums[2].add_(reference.gram(teacher, teacher, **window))


@pytest.mark.parametrize(
    "variant",
    [fused, plain_float32, plain_float64, naive_reference, compiled(plain_float32)],
    ids=["fused", "plain_float32", "plain_float64", "reference", "compiled_float32"],
)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "x".join(map(str, s)))
def bench_gram(run: Any, shape: tuple[int, ...], variant: Any) -> None:
    kernel, num_images, student_channels, teacher_channels, size = shape
    student = torch.randn(num_images, student_channels, size, size).relu()
    teacher = torch.randn(num_images, teacher_channels, size, size).relu()
    student_size, teacher_size = student_channels * kernel**2, teacher_channels * kernel**2
    sums = [
        torch.zeros(sides, dtype=torch.float64)
        for sides in (
            (student_size, student_size),
            (teacher_size, student_size),
            (teacher_size, teacher_size),
        )
    ]
    run(f"gram_accumulate_ {kernel}x{kernel} {shape[1:]}", variant, sums, student, teacher, kernel)


def chosen(sums: list[Tensor], student: Tensor, teacher: Tensor, kept: Tensor) -> None:
    gram_accumulate_(*sums, student, teacher, channels_student=kept, channels_teacher=kept)


def copied(sums: list[Tensor], student: Tensor, teacher: Tensor, kept: Tensor) -> None:
    gram_accumulate_(*sums, student[:, kept], teacher[:, kept])


@pytest.mark.parametrize("variant", [chosen, copied], ids=["fused", "copied"])
@pytest.mark.parametrize("shape", POINTWISE, ids=lambda s: "x".join(map(str, s)))
def bench_chosen_channels(run: Any, shape: tuple[int, ...], variant: Any) -> None:
    num_images, _, channels, size = shape
    student, teacher = (torch.randn(num_images, channels, size, size).relu() for _ in range(2))
    kept = torch.arange(0, channels, 2)
    sums = [torch.zeros(len(kept), len(kept), dtype=torch.float64) for _ in range(3)]
    run(
        f"gram_accumulate_ of half the channels {shape[:1] + shape[2:]}",
        variant,
        sums,
        student,
        teacher,
        kept,
    )
