"""The pictures of the page: thumbnails, strips of channels, errors along the network."""

import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from well_formed import Page

import fsc
import fsc.report
from fsc.report import page_pictures, thumbnails


def test_images_look_as_they_did():
    raw = torch.randint(0, 256, (2, 3, 5, 4), dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    own = [torch.tensor(values).reshape(1, 3, 1, 1) for values in (mean, std)]
    made = thumbnails.thumbnails((raw / 255 - own[0]) / own[1], mean, std)
    found = [pixels_of(each) for each in made]
    assert all(torch.equal(a, b) for a, b in zip(found, raw.permute(0, 2, 3, 1), strict=True))
    stretched = pixels_of(thumbnails.thumbnails(torch.tensor([[[[-3.0, 1.0, 5.0]]]]))[0])
    assert stretched.flatten().tolist() == [0, 128, 255]


def pixels_of(element):
    """[H, W, C] of a thumbnail."""
    encoded = re.search(r"base64,([^\"]+)", element)[1]
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        assert image.format == "PNG" and image.mode in ("L", "RGB")
        return torch.from_numpy(np.array(image)).reshape(*image.size[::-1], -1)


def test_twenty_large_images_at_most_stay_small():
    made = thumbnails.thumbnails(torch.randn(65, 5, 300, 200))
    assert 10 <= len(made) <= thumbnails.MOST
    assert 'width="64" height="96"' in made[0] and 'alt="one of the images, 200 x 300' in made[0]
    one = fsc.report.page_images.section
    told = {"num_images": 65, "inputs": [[5, 8, 8]], "images": {"mean": []}}
    (note,) = [p for p in one(told, torch.randn(65, 5, 8, 8), None, None) if "of them" in p]
    assert "the first of 5 channels" in note


@pytest.mark.parametrize(
    ("stays", "runs"), [([0, 1, 3], "M0 0H2V1H0ZM3 0H4V1H3Z"), ([2], "M2 0H3V1H2Z"), ([], None)]
)
def test_a_strip_draws_runs_of_channels(stays, runs):
    drawn = page_pictures.strip(stays, 4)
    assert drawn.count("<path") == (runs is not None) and (runs or "") in drawn


def test_errors_of_zero_and_far_apart_stay_in_the_picture():
    layers = [
        {"name": name, "relative_error": error, "error": error, "error_before": 2 * error}
        for name, error in (("a", 0.0), ("b", 1e-12), ("c", 0.5))
    ]
    page = Page(page_pictures.errors(layers, [1, 2, 3]))
    heights = [float(a["cy"]) for tag, a in page.elements if tag == "circle"]
    assert len(heights) == 5 and all(10 <= height <= 150 for height in heights)
    assert page_pictures.errors(layers[:1], [1]) is None
    assert page_pictures.errors([], []) is None
