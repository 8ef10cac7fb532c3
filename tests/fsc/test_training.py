import pytest
import torch
from torch import nn

from fsc.training import supervised as training

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def task():
    """Images whose class is the row that is bright; a shift by a pixel does not change it."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(96) % 2
    images = 0.1 * torch.randn(96, 1, 8, 8, generator=generator)
    images[labels == 0, :, :4] += 1
    images[labels == 1, :, 4:] += 1
    return images, labels


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(),
                         nn.Linear(256, 2))  # fmt: skip


def test_learns_and_ends_in_evaluation_mode(task):
    images, labels = task
    model = network()
    training.train(model, images, labels, epochs=4, batch_size=16)
    assert not model.training
    assert (model(images).argmax(1) == labels).all()


def test_same_seed_gives_the_same_bits(task):
    weights = []
    for seed in (1, 1, 2):
        model = network()
        training.train(model, *task, epochs=1, batch_size=16, seed=seed)
        weights.append(model[0].weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_tells_of_every_epoch(task):
    told = []
    training.train(network(), *task, epochs=2, progress=lambda *what: told.append(what))
    assert told == [("epochs", 1, 2), ("epochs", 2, 2)]


def test_shifts_move_each_image_by_at_most_one_pixel():
    images = torch.zeros(200, 1, 5, 5)
    images[:, :, 2, 2] = 1
    moved = training._shifted(images, torch.Generator().manual_seed(0))
    places = {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()}
    assert places == {(row, column) for row in (1, 2, 3) for column in (1, 2, 3)}
    assert (moved.flatten(1).sum(1) == 1).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"images": torch.zeros(1, 1, 8, 8)}, "images must be .* N at least 2"),
        ({"images": torch.full((96, 1, 8, 8), torch.nan)}, "finite"),
        ({"labels": torch.zeros(3, dtype=torch.int64)}, r"labels must be \[96\]"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 1}, "batch_size must be at least 2, got 1"),
    ],
)
def test_refuses_bad_arguments(task, change, expected):
    arguments = {"images": task[0], "labels": task[1], "epochs": 1} | change
    with pytest.raises(ValueError, match=expected):
        training.train(network(), **arguments)
