import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interruption import Interrupting
from torch import nn

import fsc
from fsc.networks.tensor_files import read_header, read_tensors, write_tensors
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


@pytest.mark.parametrize("dtype", [torch.int16, torch.uint16, torch.int32])
def test_labels_of_every_integer_type_and_numbers_of_numpy(task, dtype):
    images, labels = task
    expected, found = network(), network()
    training.train(expected, images, labels, epochs=1, batch_size=16, learning_rate=0.5)
    given = {"epochs": np.int64(1), "batch_size": np.int64(16), "learning_rate": np.float32(0.5)}
    given |= {"shift": np.int8(1), "mirror": np.bool_(False), "seed": np.int64(0)}
    training.train(found, images, labels.to(dtype), scale_penalty=np.float32(0), **given)
    assert torch.equal(found[0].weight, expected[0].weight)


def test_tells_of_every_epoch(task):
    told = []
    training.train(network(), *task, epochs=2, progress=lambda *what: told.append(what))
    assert told == [("epoch", 1, 2), ("epoch", 2, 2)]


def test_shifts_move_each_image_by_at_most_one_pixel():
    images = torch.zeros(200, 1, 5, 5)
    images[:, :, 2, 2] = 1
    moved = training._shifted(images, torch.Generator().manual_seed(0), 1)
    assert torch.equal(training._shifted(images, torch.Generator(), 0), images)
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
        ({"scale_penalty": -1.0}, "scale_penalty must be finite and at least 0, got -1.0"),
        ({"shift": 9}, "shift must be from 0 to 8, the pixels of an image, got 9"),
    ],
)
def test_refuses_bad_arguments(task, change, expected):
    arguments = {"images": task[0], "labels": task[1], "epochs": 1} | change
    with pytest.raises(ValueError, match=expected):
        training.train(network(), **arguments)


def test_a_penalty_on_scales_refuses_a_network_without(task):
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    with pytest.raises(ValueError, match="BatchNorms with scales to train, got 0.1 for Sequential"):
        training.train(model, *task, epochs=1, scale_penalty=0.1)


def test_a_penalty_needs_scales_that_are_trained(task):
    model = network()
    model[1].weight.requires_grad_(False)
    with pytest.raises(ValueError, match="BatchNorms with scales to train, got 0.1 for"):
        training.train(model, *task, epochs=1, scale_penalty=0.1)


def test_a_step_adds_the_subgradient_to_the_scales_alone(task):
    images, labels = task
    steps = []
    for penalty in (0.0, 0.01):
        model = network()
        model[1].weight.data = torch.tensor([1.0, -1.0, 0.5, 0.0])
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        training._step(model, optimizer, images, labels, [model[1].weight], penalty)
        steps.append(dict(model.named_parameters()))
    without, penalised = steps
    for name, value in without.items():
        signs = torch.tensor([1.0, -1.0, 1.0, 0.0]) if name == "1.weight" else 0
        torch.testing.assert_close(penalised[name], value - 0.01 * signs)


def test_a_penalty_makes_scales_smaller(task):
    sizes = []
    for penalty in (0.0, 0.1):
        model = network()
        training.train(model, *task, epochs=4, batch_size=16, scale_penalty=penalty)
        sizes.append(float(model[1].weight.detach().abs().sum()))
    assert sizes[1] < 0.9 * sizes[0]


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_training_goes_on_with_the_same_bits(task, tmp_path, at):
    given = {"epochs": 3, "batch_size": 16, "scale_penalty": 1e-3, "shift": 2, "mirror": True}
    whole, model, path = network(), network(), tmp_path / "state.safetensors"
    training.train(whole, *task, **given)
    with pytest.raises(KeyboardInterrupt):
        training.train(model, *task, **given, state_file=path, progress=Interrupting(at))
    told = []
    again = network()
    training.train(
        again, *task, **given, state_file=path, progress=lambda _, done, __: told.append(done)
    )
    assert told == list(range(at + 1, 4))
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_state_file_of_another_training_or_damaged(task, tmp_path):
    path = tmp_path / "state.safetensors"
    training.train(network(), *task, epochs=1, state_file=path)
    with pytest.raises(ValueError, match="of one with epochs 1, not 2, seed 0, not 3: pass what"):
        training.train(network(), *task, epochs=2, seed=3, state_file=path)
    other = network()
    other[0].weight.data += 1
    with pytest.raises(ValueError, match="of one with other weights at its start"):
        training.train(other, *task, epochs=1, state_file=path)
    path.write_bytes(path.read_bytes()[:-1])
    whole, model = network(), network()
    training.train(whole, *task, epochs=1)
    with pytest.warns(fsc.CompressionWarning, match="damaged.*starts from the beginning"):
        training.train(model, *task, epochs=1, state_file=path)
    assert torch.equal(model[0].weight, whole[0].weight)


def _signed(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object]) -> None:
    """A state file that was changed by something that knows how to sign it."""
    tensors, header = read_tensors(path)
    header.pop("sha256")
    change(tensors, header)
    write_tensors(path, tensors, header)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, _: tensors.pop("model.1.bias"),
        lambda tensors, _: tensors.pop("draws"),
        lambda tensors, _: tensors.update({"model.1.bias": torch.zeros(3)}),
        lambda tensors, _: tensors.update({"momentum.0": torch.zeros(3)}),
        lambda tensors, _: tensors.update(draws=torch.zeros(3, dtype=torch.uint8)),
        lambda tensors, _: tensors.update(draws=tensors["draws"].float()),
    ],
)
def test_a_state_file_without_the_network_is_refused(task, tmp_path, change):
    path = tmp_path / "state.safetensors"
    training.train(network(), *task, epochs=1, state_file=path)
    _signed(path, change)
    with pytest.raises(ValueError, match="state_file must hold the network that is trained"):
        training.train(network(), *task, epochs=1, state_file=path)


@pytest.mark.parametrize(
    "change",
    [
        lambda _, header: header.update(identity=3.5),
        lambda _, header: header.update(epoch="one"),
        lambda _, header: header.pop("rate"),
        lambda _, header: header.update(rate="fast"),
    ],
)
def test_a_state_file_with_another_header_is_passed_over(task, tmp_path, change):
    path = tmp_path / "state.safetensors"
    training.train(network(), *task, epochs=1, state_file=path)
    _signed(path, change)
    with pytest.warns(fsc.CompressionWarning, match="starts from the beginning"):
        training.train(network(), *task, epochs=1, state_file=path)


def test_a_pipe_is_not_waited_for(task, tmp_path):
    path = tmp_path / "state.safetensors"
    os.mkfifo(path)
    with pytest.warns(fsc.CompressionWarning, match="it is no file"):
        training.train(network(), *task, epochs=1, state_file=path)
    assert path.is_file() and read_header(path)["epoch"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": None}, r"model must be a torch\.nn\.Module, got NoneType"),
        ({"labels": [0, 1]}, r"labels must be a torch\.Tensor, got list"),
        ({"epochs": "2"}, "epochs must be an integer, got '2'"),
        ({"batch_size": 4.0}, "batch_size must be an integer, got 4.0"),
        ({"learning_rate": "a"}, "learning_rate must be a number, got 'a'"),
        ({"scale_penalty": "a"}, "scale_penalty must be a number, got 'a'"),
        ({"shift": 0.5}, "shift must be an integer, got 0.5"),
        ({"mirror": "yes"}, "mirror must be True or False, got 'yes'"),
        ({"seed": None}, "seed must be an integer, got None"),
    ],
)
def test_arguments_of_another_kind_are_named(task, arguments, message):
    fitting = {"model": network(), "images": task[0], "labels": task[1], "epochs": 1}
    with pytest.raises(TypeError, match=f"^train: {message}"):
        training.train(**fitting | arguments)
