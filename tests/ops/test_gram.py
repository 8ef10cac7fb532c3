"""gram_accumulate_ against im2col in float64, in every layout and window."""

from typing import Any

import pytest
import torch
from gram_sums import (
    RELATIVE_ERROR,
    WINDOWS,
    assert_near,
    expected_sums,
    features,
    start,
)
from torch import Tensor

from fsc_ext import gram_accumulate_, reference
from fsc_ext.testing import FLOATING, devices


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("ones", [False, True], ids=["plain", "ones"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_matches_reference(window: Any, ones: bool, dtype: torch.dtype, device: Any) -> None:
    # The first image size makes several images share a panel, the second several panels an image.
    for num_images, height, width in ((30, 9, 8), (2, 50, 61)):
        student = torch.randn(num_images, 5, height, width, dtype=dtype, device=device)
        teacher = torch.randn(num_images, 3, height, width, dtype=dtype, device=device) + 0.5
        sizes = features(window, 5) + ones, features(window, 3) + ones
        before = start(*sizes, torch.float64, device)
        expected = expected_sums(before, student, teacher, ones=ones, **window)
        gram_accumulate_(*before, student, teacher, **window)
        for actual, wanted in zip(before, expected, strict=True):
            assert_near(actual, wanted, RELATIVE_ERROR[dtype])


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)], ids=str)
def test_any_gram_may_be_missing(wanted: tuple[int, ...], device: Any) -> None:
    student = torch.randn(4, 5, 6, 6, dtype=torch.float64, device=device)
    teacher = torch.randn(4, 3, 6, 6, dtype=torch.float64, device=device)
    before = start(5, 3, torch.float64, device)
    expected = expected_sums(before, student, teacher)
    sums = [x if i in wanted else None for i, x in enumerate(before)]
    needs_student, needs_teacher = {0, 1} & set(wanted), {1, 2} & set(wanted)
    gram_accumulate_(*sums, student if needs_student else None, teacher if needs_teacher else None)
    for i in wanted:
        assert_near(before[i], expected[i], RELATIVE_ERROR[torch.float64])


def test_without_cross_the_images_may_differ() -> None:
    student, teacher = torch.randn(4, 5, 6, 7).double(), torch.randn(3, 2, 8, 8).double()
    sums = [torch.zeros(5, 5).double(), None, torch.zeros(2, 2).double()]
    gram_accumulate_(*sums, student, teacher)
    assert_near(sums[0], reference.gram(student, student), RELATIVE_ERROR[torch.float64])
    assert_near(sums[2], reference.gram(teacher, teacher), RELATIVE_ERROR[torch.float64])


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("ones", [False, True], ids=["plain", "ones"])
def test_linear_features(ones: bool, device: Any) -> None:
    student, teacher = torch.randn(9, 5, device=device), torch.randn(9, 4, device=device)
    before = start(5 + ones, 4 + ones, torch.float32, device)
    expected = expected_sums(before, student, teacher, ones=ones)
    gram_accumulate_(*before, student, teacher)
    for actual, wanted in zip(before, expected, strict=True):
        assert_near(actual, wanted, RELATIVE_ERROR[torch.float32])


def test_result_is_symmetric_to_the_bit() -> None:
    gram = torch.zeros(90, 90, dtype=torch.float64)
    gram_accumulate_(gram, None, None, torch.randn(5, 10, 9, 9), None, kernel_size=3)
    assert torch.equal(gram, gram.T)


def test_batches_add_up_as_one() -> None:
    images = torch.randint(-4, 5, (10, 7, 8, 8)).float()
    whole, parts = (torch.zeros(63, 63, dtype=torch.float64) for _ in range(2))
    gram_accumulate_(whole, None, None, images, None, kernel_size=3, padding=1)
    for batch in images.split(3):
        gram_accumulate_(parts, None, None, batch, None, kernel_size=3, padding=1)
    assert torch.equal(whole, parts)


def test_sums_over_panels_are_float64() -> None:
    # 2 ** 24 + 1 is no float32: a float32 running sum would lose every later panel. Between the
    # large numbers and the ones are more zeros than a panel holds.
    gram = torch.zeros(1, 1, dtype=torch.float64)
    images = torch.ones(4, 1, 100, 100)
    images[0] *= 4096.0
    images[1] = 0.0
    gram_accumulate_(gram, None, None, images, None)
    assert gram.item() == 10_000 * 4096.0**2 + 20_000


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("shape", [(0, 5, 6, 6), (4, 5, 0, 6), (0, 5)], ids=str)
@pytest.mark.parametrize("ones", [False, True], ids=["plain", "ones"])
def test_empty_input_adds_nothing(shape: tuple[int, ...], ones: bool, device: Any) -> None:
    empty = torch.empty(shape, device=device)
    sums = start(5 + ones, 5 + ones, torch.float64, device)
    before = [x.clone() for x in sums]
    gram_accumulate_(*sums, empty, empty)
    assert all(torch.equal(a, b) for a, b in zip(sums, before, strict=True))


def test_no_channels() -> None:
    empty, full = torch.empty(3, 0, 4, 4), torch.randn(3, 2, 4, 4)
    sums = [torch.zeros(1, 1), torch.zeros(3, 1), torch.zeros(3, 3)]
    gram_accumulate_(*sums, empty, full)
    assert sums[0].item() == 48
    sums = [torch.zeros(0, 0), torch.zeros(2, 0), torch.zeros(2, 2)]
    gram_accumulate_(*sums, empty, full)
    assert_near(sums[2], reference.gram(full, full), RELATIVE_ERROR[torch.float32])


def test_same_bits_again_and_with_more_threads() -> None:
    window = {"kernel_size": 3, "padding": 1}

    def sums_of(images: Tensor, num_threads: int) -> Tensor:
        threads = torch.get_num_threads()
        torch.set_num_threads(num_threads)
        try:
            gram = torch.zeros(145, 145, dtype=torch.float64)
            gram_accumulate_(gram, None, None, images, None, **window)
        finally:
            torch.set_num_threads(threads)
        return gram

    images = torch.randn(20, 16, 12, 12)
    assert torch.equal(sums_of(images, 1), sums_of(images, 1))
    # Whole numbers take MKL's division of a product out of the comparison.
    whole = torch.randint(-4, 5, images.shape).float()
    assert torch.equal(sums_of(whole, 1), sums_of(whole, 2))


def test_opcheck() -> None:
    op = torch.ops.fsc_ext.gram_accumulate_
    student, teacher = torch.randn(3, 2, 5, 5), torch.randn(3, 4, 5, 5)
    one, three = [[1, 1], [1, 1], [0, 0], [1, 1]], [[3, 3], [2, 2], [1, 1], [1, 1]]
    torch.library.opcheck(op, (*start(2, 4, torch.float64, "cpu"), student, teacher, *one))
    sums = start(19, 37, torch.float32, "cpu")
    last = torch.channels_last
    torch.library.opcheck(
        op, (sums[0].T, None, sums[2], student, teacher.to(memory_format=last), *three)
    )
    kept = torch.tensor([3, 0])
    torch.library.opcheck(
        op, (*start(2, 2, torch.float64, "cpu"), student, teacher, *one), {"channels_teacher": kept}
    )


def test_compile() -> None:
    def step(gram: Tensor, images: Tensor) -> Tensor:
        gram = gram.clone()
        gram_accumulate_(gram, None, None, images * 2, None, kernel_size=3, padding=1)
        return gram + 1

    gram, images = torch.zeros(18, 18, dtype=torch.float64), torch.randn(2, 2, 5, 5)
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(gram, images), step(gram, images))
