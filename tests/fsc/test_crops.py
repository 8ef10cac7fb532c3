"""Random resized crops: where they lie, what they show, how often they are mirrored."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fsc.images.crops import AREA, RATIO, random_boxes, random_crops, resized_parts


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _ramp(height: int, width: int) -> Tensor:
    """An image whose channels are the row and the column of every pixel, [1, 2, H, W]."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns])[None].double()


NOT = torch.tensor([False])
# Top, left, height, width: all, a corner, one pixel, tall, wide.
BOXES = [(0, 0, 12, 16), (7, 9, 5, 7), (3, 4, 1, 1), (0, 5, 12, 3), (6, 0, 2, 16)]


@pytest.mark.parametrize("box", BOXES)
def test_a_part_of_a_ramp_has_the_values_of_its_rows_and_columns(box) -> None:
    top, left, height, width = box
    found = resized_parts(_ramp(12, 16), torch.tensor([box]), NOT)[0]
    rows = [min(max((i + 0.5) * height / 12 - 0.5, 0), height - 1) + top for i in range(12)]
    columns = [min(max((i + 0.5) * width / 16 - 0.5, 0), width - 1) + left for i in range(16)]
    expected = torch.meshgrid(torch.tensor(rows), torch.tensor(columns), indexing="ij")
    torch.testing.assert_close(found, torch.stack(expected).double(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_what_cutting_and_resizing_give(box, dtype: torch.dtype) -> None:
    """With antialiasing, too, which changes nothing where nothing becomes smaller."""
    torch.manual_seed(0)
    images = torch.randn(1, 3, 12, 16, dtype=dtype)
    top, left, height, width = box
    cut = images[:, :, top : top + height, left : left + width]
    found = resized_parts(images, torch.tensor([box]), NOT)
    for antialias in (False, True):
        wanted = F.interpolate(cut, (12, 16), mode="bilinear", antialias=antialias)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=2e-5)
    mirrored = resized_parts(images, torch.tensor([box]), ~NOT)
    torch.testing.assert_close(mirrored, found.flip(3), rtol=1e-5, atol=2e-5)


def test_the_whole_is_the_image_itself() -> None:
    images = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    box = torch.tensor([[0, 0, 7, 9]]).expand(2, 4)
    torch.testing.assert_close(resized_parts(images, box, NOT.expand(2)), images)


@pytest.mark.parametrize(("height", "width"), [(224, 224), (96, 160), (32, 32)])
def test_areas_and_ratios_are_those_asked_for(height: int, width: int) -> None:
    boxes = random_boxes(4000, height, width, _generator()).double()
    tops, lefts, heights, widths = boxes.unbind(1)
    assert (boxes >= 0).all() and (heights >= 1).all() and (widths >= 1).all()
    assert (tops + heights <= height).all() and (lefts + widths <= width).all()
    area, ratio = heights * widths / (height * width), widths / heights
    slack = 1.0 / heights.minimum(widths)  # sides are whole pixels
    assert (area >= AREA[0] * (1 - 2 * slack)).all() and (area <= 1).all()
    assert (ratio >= RATIO[0] * (1 - 2 * slack)).all()
    assert (ratio <= RATIO[1] * (1 + 2 * slack)).all()
    assert ratio.log().mean().abs() < 0.02 or height != width
    assert area.min() < 0.1 and area.max() > 0.75
    for start, length, side in ((tops, heights, height), (lefts, widths, width)):
        assert (start == 0).any() and (start + length == side).any()
        free = length < side
        assert abs(float((start[free] / (side - length[free])).mean()) - 0.5) < 0.03


def test_areas_are_spread_evenly_where_they_all_fit() -> None:
    """Small ones fit at every ratio: as many lie in each tenth of their range."""
    boxes = random_boxes(20_000, 224, 224, _generator()).double()
    area = boxes[:, 2] * boxes[:, 3] / 224**2
    low, high = ((area > a) & (area < a + 0.2) for a in (0.1, 0.4))
    assert abs(float(low.sum() / high.sum()) - 1) < 0.06
    ratio = (boxes[:, 3] / boxes[:, 2])[area < 0.5].log() / math.log(RATIO[1])  # -1 to 1
    counts = torch.histc(ratio, 4, -1, 1)
    assert float(counts.max() / counts.min()) < 1.15


@pytest.mark.parametrize(
    ("size", "middle"),
    [((4, 100), [0, 47, 4, 5]), ((100, 4), [47, 0, 5, 4]), ((1, 1), [0, 0, 1, 1])],
)
def test_where_nothing_fits_it_is_the_middle(size, middle: list[int]) -> None:
    boxes = random_boxes(50, *size, _generator())
    assert (boxes == torch.tensor(middle)).all(1).any()
    assert (boxes[:, :2] + boxes[:, 2:] <= torch.tensor(size)).all()


def test_half_of_them_are_mirrored() -> None:
    images = _ramp(8, 8).expand(2000, 2, 8, 8)
    crops = random_crops(images, _generator())
    falls = crops[:, 1, 0, 0] > crops[:, 1, 0, -1]
    rises = crops[:, 1, 0, 0] < crops[:, 1, 0, -1]
    assert abs(int(falls.sum()) / int((falls | rises).sum()) - 0.5) < 0.04
    assert (crops[:, 0, 0] <= crops[:, 0, -1]).all()  # never upside down


def test_the_generator_decides_and_goes_on() -> None:
    images, generator = torch.randn(5, 3, 8, 8), _generator(1)
    first, second = random_crops(images, generator), random_crops(images, generator)
    assert torch.equal(first, random_crops(images, _generator(1)))
    assert not torch.equal(first, second)
    assert not torch.equal(first, random_crops(images, _generator(2)))


def test_each_image_has_a_part_of_its_own() -> None:
    crops = random_crops(_ramp(32, 32).expand(6, 2, 32, 32), _generator())
    assert len({tuple(crop.flatten().tolist()) for crop in crops}) == 6
