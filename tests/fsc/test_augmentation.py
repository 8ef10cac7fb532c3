"""New images made from the given ones."""

import pytest
import torch

from fsc.images.augmentation import augmented
from fsc.images.names import AUGMENTATIONS

IMAGES = torch.randn(5, 3, 16, 16)


@pytest.mark.parametrize("kind", AUGMENTATIONS)
def test_given_images_come_first_and_new_ones_differ(kind):
    found = augmented(IMAGES, kind, seed=3)
    assert found.shape == (10, 3, 16, 16)
    assert torch.equal(found[:5], IMAGES)
    assert not torch.equal(found[5:], IMAGES)
    assert torch.equal(augmented(IMAGES, kind, seed=3), found)
    assert kind == "mirror" or not torch.equal(augmented(IMAGES, kind, seed=4), found)


def test_mirror_images():
    assert torch.equal(augmented(IMAGES, "mirror")[5:], IMAGES.flip(3))


def test_crops_keep_constant_colours_inside():
    ones = torch.ones(20, 1, 16, 16)
    cropped = augmented(ones, "crop")[20:]
    torch.testing.assert_close(cropped[:, :, 6:10, 6:10], ones[:, :, 6:10, 6:10])
    assert (cropped == 0).any() and cropped.max() <= 1 + 1e-6


def test_mixtures_lie_between_two_images():
    found = augmented(torch.arange(6.0).view(6, 1, 1, 1), "mixup", copies=3)
    assert found.shape == (24, 1, 1, 1)
    assert found.min() >= 0 and found.max() <= 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "blur"}, "kind must be one of mirror, crop, mixup, hard, got 'blur'"),
        ({"kind": "crop", "copies": 0}, "copies must be at least 1 for crop, got 0"),
        ({"kind": "mirror", "copies": 2}, "copies must be 1 for mirror, got 2"),
        (
            {"images": IMAGES[0], "kind": "crop"},
            r"images must be floating point \[N, C, H, W\] .* got torch.float32 \[3, 16, 16\]",
        ),
    ],
)
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        augmented(**{"images": IMAGES, **arguments})
