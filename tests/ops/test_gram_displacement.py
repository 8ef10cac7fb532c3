"""gram_accumulate_ where the CPU multiplies displaced images: enough channels, windows of stride 1.

Small whole numbers make every sum exact in any order, so that the bits must agree with im2col.
"""

from typing import Any

import pytest
import torch
from other_instructions import assert_passes_with_avx2, of_the_cpu
from torch import Tensor

from fsc_ext import gram_accumulate_, reference
from fsc_ext.testing import EMULATED, layouts

# The emulated device has one kernel for all, which would take minutes here.
pytestmark = pytest.mark.skipif(EMULATED, reason="a kernel of the CPU alone")

WINDOWS: list[dict[str, Any]] = [
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 3},
    {"kernel_size": (1, 3), "padding": (0, 1)},
    {"kernel_size": (2, 5), "padding": (3, 1), "dilation": (2, 1)},
    {"kernel_size": 5, "padding": 2},
    {},
    {"padding": 1},
]
# Pixels of one image, many images a row, rows of several strips.
SIZES = [(6, 7), (9, 8), (5, 70)]


def whole(*shape: int) -> Tensor:
    return torch.randint(-3, 4, shape).float()


def sums_for(student: int, teacher: int, window: dict[str, Any], ones: bool) -> list[Tensor]:
    """Zeros for so many channels."""
    kernel = window.get("kernel_size", 1)
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    rows, columns = (count * height * width + ones for count in (teacher, student))
    shapes = (columns, columns), (rows, columns), (rows, rows)
    return [torch.zeros(shape, dtype=torch.float64) for shape in shapes]


def assert_equal(sums: list[Tensor], student: Tensor, teacher: Tensor, **window: Any) -> None:
    pairs = (student, student), (teacher, student), (teacher, teacher)
    for actual, (rows, columns) in zip(sums, pairs, strict=True):
        assert torch.equal(actual, reference.gram(rows, columns, **window))


@pytest.mark.parametrize("ones", [False, True], ids=["plain", "ones"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_windows(size: tuple[int, int], window: Any, ones: bool) -> None:
    student, teacher = (whole(11, count, *size) for count in (16, 37))
    sums = sums_for(16, 37, window, ones)
    gram_accumulate_(*sums, student, teacher, **window)
    assert_equal(sums, student, teacher, ones=ones, **window)


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (1, 4), (3, 3)], ids=str)
def test_maps_smaller_than_the_reach_of_the_taps(size: tuple[int, int]) -> None:
    student, teacher = (whole(70, 18, *size) for _ in range(2))
    for window in (WINDOWS[0], WINDOWS[4]):
        sums = sums_for(18, 18, window, True)
        gram_accumulate_(*sums, student, teacher, **window)
        assert_equal(sums, student, teacher, ones=True, **window)


@pytest.mark.parametrize("layout", ["contiguous", "strided", "channels_last"])
@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[5]], ids=str)
def test_layouts_and_chosen_channels(window: Any, layout: str) -> None:
    student, teacher = (whole(7, 40, 6, 9) for _ in range(2))
    kept = torch.tensor([39, 2, 2, *range(3, 20)])
    images = layouts(student)[layout], layouts(teacher)[layout]
    sums = sums_for(40, 40, window, False)
    gram_accumulate_(*sums, images[0], images[1], **window)
    assert_equal(sums, student, teacher, **window)
    sums = sums_for(20, 40, window, False)
    gram_accumulate_(*sums, images[0], images[1], **window, channels_student=kept)
    assert_equal(sums, student[:, kept], teacher, **window)


@pytest.mark.parametrize("window", [WINDOWS[0], WINDOWS[5]], ids=str)
def test_more_images_than_are_read_at_once(window: Any) -> None:
    student, teacher = (whole(5, count, 70, 50) for count in (16, 48))
    sums = sums_for(16, 48, window, True)
    gram_accumulate_(*sums, student, teacher, **window)
    assert_equal(sums, student, teacher, ones=True, **window)


def test_bits_do_not_depend_on_threads() -> None:
    images, window = torch.randn(9, 48, 12, 12), WINDOWS[0]

    def sums_of(num_threads: int) -> Tensor:
        threads = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        try:
            gram = sums_for(48, 48, window, True)[0]
            gram_accumulate_(gram, None, None, images, None, **window)
        finally:
            torch.set_num_threads(threads)
        return gram

    assert torch.equal(sums_of(1), sums_of(2))
    assert torch.equal(sums_of(1), sums_of(1).T)


def test_closer_than_float32_sums() -> None:
    images, window = torch.randn(40, 16, 16, 16).relu(), WINDOWS[0]
    gram = sums_for(16, 16, window, False)[0]
    gram_accumulate_(gram, None, None, images, None, **window)
    exact = reference.gram(images, images, **window)
    # Chains of at most 32 products, then of 8 sums, each rounded to 2^-24: 160 of them averaged.
    assert (gram - exact).norm() <= 2e-8 * exact.norm()


def test_nothing_is_taken_from_beyond_the_border() -> None:
    images = torch.full((3, 16, 5, 5), torch.nan)
    images[1] = 1.0
    gram = sums_for(16, 16, WINDOWS[0], True)[0]
    gram_accumulate_(gram, None, None, images[1:2], None, **WINDOWS[0])
    assert torch.equal(gram, reference.gram(images[1:2], images[1:2], ones=True, **WINDOWS[0]))


@of_the_cpu
def test_avx2():
    assert_passes_with_avx2(__file__)
