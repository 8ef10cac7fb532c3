"""gram_accumulate_ on every layout and shape of images: whole numbers, so the bits must agree."""

from typing import Any

import pytest
import torch
from gram_sums import (
    WINDOWS,
    expected_sums,
    features,
    start,
)

from fsc_ext import gram_accumulate_, reference
from fsc_ext.testing import FLOATING, devices, layouts, strided


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("window", WINDOWS[:3], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "strided", "channels_last"])
def test_layouts_of_inputs_and_sums(layout: str, window: Any, device: Any) -> None:
    # Small whole numbers: every sum is exact in any order, so the bits must agree.
    student = torch.randint(-4, 5, (12, 6, 14, 15), device=device).float()
    teacher = torch.randint(-4, 5, (12, 4, 14, 15), device=device).float()
    sizes = features(window, 6), features(window, 4)
    zeros = [torch.zeros_like(x) for x in start(*sizes, torch.float64, device)]
    expected = expected_sums(zeros, student, teacher, **window)
    gram_accumulate_(*zeros, layouts(student)[layout], layouts(teacher)[layout], **window)
    for actual, wanted in zip(zeros, expected, strict=True):
        assert torch.equal(actual, wanted)
    views = [strided(torch.zeros_like(x)) for x in zeros]
    gram_accumulate_(*views, student, layouts(teacher)[layout], **window)
    for actual, wanted in zip(views, expected, strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
@pytest.mark.parametrize("ones", [False, True], ids=["plain", "ones"])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_whole_vectors_of_channels(window: Any, ones: bool, dtype: Any, device: Any) -> None:
    # Device code copies neighbouring channels together and counts the rows in another order.
    student = torch.randint(-4, 5, (5, 12, 9, 7), device=device).to(dtype)
    teacher = torch.randint(-4, 5, (5, 4, 9, 7), device=device).to(dtype)
    sizes = features(window, 12) + ones, features(window, 4) + ones
    sums = [torch.zeros_like(x) for x in start(*sizes, torch.float64, device)]
    expected = expected_sums(sums, student, teacher, ones=ones, **window)
    images = (each.to(memory_format=torch.channels_last) for each in (student, teacher))
    gram_accumulate_(*sums, *images, **window)
    for actual, wanted in zip(sums, expected, strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("dtype", FLOATING, ids=str)
def test_maps_of_one_pixel(dtype: Any, device: Any) -> None:
    # Their strides are arbitrary, which must not move a copy away from its vectors.
    student, teacher = torch.randint(-4, 5, (2, 5, 12, 1, 1), device=device).to(dtype)
    window = WINDOWS[1]
    sizes = features(window, 12), features(window, 12)
    sums = [torch.zeros_like(x) for x in start(*sizes, torch.float64, device)]
    expected = expected_sums(sums, student, teacher, **window)
    gram_accumulate_(*sums, student, teacher, **window)
    for actual, wanted in zip(sums, expected, strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("ones", [False, True], ids=["plain", "ones"])
@pytest.mark.parametrize("window", WINDOWS[:2], ids=str)
@pytest.mark.parametrize("layout", ["contiguous", "strided", "channels_last"])
def test_chosen_channels(layout: str, window: Any, ones: bool, device: Any) -> None:
    # In any order, of either side, more than once: as of copies that hold them.
    student = torch.randint(-4, 5, (9, 8, 6, 6), device=device).float()
    teacher = torch.randint(-4, 5, (9, 5, 6, 6), device=device).float()
    kept = torch.tensor([6, 1, 2, 3, 7, 6], device=device)
    given = torch.tensor([4, 0, 0, 2], device=device)
    for own, other in ((kept, given), (None, given), (kept, None)):
        first = student if own is None else student[:, own]
        second = teacher if other is None else teacher[:, other]
        sizes = features(window, first.shape[1]) + ones, features(window, second.shape[1]) + ones
        sums = [torch.zeros_like(x) for x in start(*sizes, torch.float64, device)]
        expected = expected_sums(sums, first, second, ones=ones, **window)
        images = layouts(student)[layout], layouts(teacher)[layout]
        gram_accumulate_(*sums, *images, **window, channels_student=own, channels_teacher=other)
        for actual, wanted in zip(sums, expected, strict=True):
            assert torch.equal(actual, wanted)


def test_chosen_channels_of_linear_features_and_none() -> None:
    images = torch.randint(-4, 5, (9, 8)).float()
    kept, none = torch.tensor([5, 3]), torch.zeros(0, dtype=torch.int64)
    gram, empty = torch.zeros(2, 2, dtype=torch.float64), torch.zeros(0, 0)
    gram_accumulate_(gram, None, None, images, None, channels_student=kept)
    assert torch.equal(gram, reference.gram(images[:, kept], images[:, kept]))
    gram_accumulate_(None, None, empty, None, images, channels_teacher=none)


@pytest.mark.parametrize("device", devices(), ids=str)
def test_tokens(device: Any) -> None:
    # What a linear layer reads, [N, L, C], seen as images of one pixel a line.
    student, teacher = (
        torch.randint(-4, 5, (3, 8, count), device=device).float().movedim(-1, 1)[..., None]
        for count in (8, 5)
    )
    zeros = [torch.zeros_like(x) for x in start(8, 5, torch.float64, device)]
    expected = expected_sums(zeros, student, teacher)
    gram_accumulate_(*zeros, student, teacher)
    for actual, wanted in zip(zeros, expected, strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("device", devices(), ids=str)
@pytest.mark.parametrize("window", [{}, {"kernel_size": (1, 3), "padding": (0, 1)}], ids=str)
@pytest.mark.parametrize("width", [9000, 9001])
def test_long_lines(width: int, window: Any, device: Any) -> None:
    # The coordinates of such pixels do not fit into halves of 32 bits.
    student = torch.randint(-4, 5, (2, 3, 1, width), device=device).float()
    teacher = torch.randint(-4, 5, (2, 2, 1, width), device=device).float()
    sizes = features(window, 3) + 1, features(window, 2) + 1  # with a row of ones
    zeros = [torch.zeros_like(x) for x in start(*sizes, torch.float64, device)]
    expected = expected_sums(zeros, student, teacher, ones=True, **window)
    gram_accumulate_(*zeros, student, teacher, **window)
    for actual, wanted in zip(zeros, expected, strict=True):
        assert torch.equal(actual, wanted)


@pytest.mark.parametrize("device", devices(), ids=str)
def test_many_features_in_several_blocks(device: Any) -> None:
    student = torch.randint(-3, 4, (40, 70, 3, 3), device=device).float()
    teacher = torch.randint(-3, 4, (40, 33, 3, 3), device=device).float()
    shapes = (631, 631), (298, 631)
    sums = [torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes]
    window = {"kernel_size": 3, "padding": 1}
    gram_accumulate_(sums[0], sums[1], None, student, teacher, **window)
    assert torch.equal(sums[0], reference.gram(student, student, ones=True, **window))
    assert torch.equal(sums[1], reference.gram(teacher, student, ones=True, **window))
