"""Images moved, recoloured and mixed, and filled up with them."""

import math

import pytest
import torch
from torch import Tensor

from fsc.images import hard_augmentation
from fsc.images.augmentation import filled_up
from fsc.images.hard_augmentation import hardened


def drawn(images: Tensor, seed: int = 0) -> Tensor:
    return hardened(images, torch.Generator().manual_seed(seed))


def test_values_stay_between_those_of_the_given_images() -> None:
    images = torch.randn(40, 3, 12, 12) * torch.tensor([1.0, 2.0, 0.1]).view(1, 3, 1, 1)
    found = drawn(images)
    assert found.shape == images.shape and found.isfinite().all()
    lowest, highest = images.amin((0, 2, 3)), images.amax((0, 2, 3))
    assert (found.amin((0, 2, 3)) >= lowest - 1e-4).all()
    assert (found.amax((0, 2, 3)) <= highest + 1e-4).all()


def test_how_images_were_normalised_does_not_matter() -> None:
    images, mean, deviation = torch.rand(20, 3, 8, 8), 0.45, 0.22
    expected = (drawn(images) - mean) / deviation
    torch.testing.assert_close(drawn((images - mean) / deviation), expected, rtol=1e-4, atol=1e-4)


def test_a_channel_of_one_value_stays_it() -> None:
    images = torch.rand(10, 2, 8, 8)
    images[:, 1] = 0.3
    torch.testing.assert_close(drawn(images)[:, 1], images[:, 1])


def test_so_many_are_mixed_as_are_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nothing but mixing: image n is n everywhere.
    for name in ("_ZOOM", "_DEGREES", "_SHIFT", "_BRIGHTNESS", "_CONTRAST", "_SATURATION"):
        monkeypatch.setattr(hard_augmentation, name, 0.0)
    monkeypatch.setattr(hard_augmentation, "_CHANNEL", 0.0)
    monkeypatch.setattr(hard_augmentation, "_MIXED", 0.8)
    count = 2000
    images = torch.arange(float(count)).view(-1, 1, 1, 1).expand(count, 1, 8, 8)
    found = drawn(images)
    flat = found.flatten(1)
    constant = (flat - flat[:, :1]).abs().amax(1) < 1e-2
    itself = constant & ((flat[:, 0] - torch.arange(float(count))).abs() < 1e-2)
    assert itself.float().mean() == pytest.approx(0.2, abs=0.04)
    assert (constant & ~itself).float().mean() == pytest.approx(0.4, abs=0.06)  # laid over
    # A rectangle cut in has two values, and on average half of the area.
    cut = ~constant
    own = (flat[cut] - torch.arange(float(count))[cut, None]).abs() < 1e-2
    assert 0.5 < own.float().mean() < 0.8


def test_images_are_turned_by_angles_whatever_their_sides() -> None:
    height, width = 32, 96
    image = torch.zeros(1, 1, height, width)
    image[0, 0, height // 2, width // 2 - 15 : width // 2 + 15] = 1  # a level line
    turned = hard_augmentation._moved(image, torch.tensor([[0.0, 1.0, 0.0, 0.0]]))[0, 0]
    rows, columns = torch.nonzero(turned > 0.4, as_tuple=True)
    rise = float(rows.max() - rows.min()) / float(columns.max() - columns.min())
    assert rise == pytest.approx(math.tan(math.radians(hard_augmentation._DEGREES)), abs=0.06)


def test_half_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_ZOOM", "_DEGREES", "_SHIFT", "_BRIGHTNESS", "_CONTRAST", "_SATURATION"):
        monkeypatch.setattr(hard_augmentation, name, 0.0)
    monkeypatch.setattr(hard_augmentation, "_CHANNEL", 0.0)
    monkeypatch.setattr(hard_augmentation, "_MIXED", 0.0)
    ramp = torch.arange(8.0).expand(400, 1, 8, 8)
    falls = drawn(ramp)[:, 0, 0, 0] > drawn(ramp)[:, 0, 0, -1]
    assert falls.float().mean() == pytest.approx(0.5, abs=0.1)
    torch.testing.assert_close(drawn(ramp)[~falls], ramp[~falls], rtol=1e-4, atol=1e-4)


def test_given_images_come_first_then_mirror_images_then_hard_ones() -> None:
    images = torch.randn(5, 3, 8, 8)
    found = filled_up(images, 13, seed=2)
    assert found.shape == (13, 3, 8, 8)
    assert torch.equal(found[:5], images) and torch.equal(found[5:10], images.flip(3))
    assert torch.equal(found, filled_up(images, 13, seed=2))
    assert not torch.equal(found[10:], filled_up(images, 13, seed=3)[10:])
    assert filled_up(images, 23, seed=2).unique(dim=0).shape[0] == 23


def test_what_is_left_out_is_drawn() -> None:
    images = torch.randn(50, 1, 4, 4)
    mirrored = filled_up(images, 60)[50:]
    numbers = [(images.flip(3) == one).all((1, 2, 3)).nonzero().item() for one in mirrored]
    assert len(set(numbers)) == 10 and max(numbers) > 20


@pytest.mark.parametrize("shape", [(6, 3, 8, 8), (4, 2, 10), (4, 1, 3, 6, 6)])
def test_enough_images_and_what_are_no_images_stay_alone(shape: tuple[int, ...]) -> None:
    images = torch.randn(shape)
    assert torch.equal(filled_up(images, 5), images)
