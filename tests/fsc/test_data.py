import numpy as np
import pytest
import torch
from cifar_files import CLASSES, write_arrays, write_batches, write_cifar100

from fsc.images import data


@pytest.mark.parametrize("python2", [False, True])
@pytest.mark.parametrize("parent", ["", "cifar10"])
def test_standard_batches(tmp_path, python2, parent):
    written = write_batches(tmp_path / parent / "cifar-10-batches-py", python2)
    split = data.load("cifar10", "train", tmp_path)
    assert split.images.shape == (20, 32, 32, 3) and split.images.dtype == np.uint8
    assert split.labels.dtype == np.int64 and split.classes == CLASSES
    rows, labels = written["data_batch_2"]
    # A row holds the red plane, then the green, then the blue, each line after line.
    assert np.array_equal(split.images[5, :, :, 1].ravel(), rows[1, 1024:2048])
    assert split.labels[4:8].tolist() == labels
    test = data.load("cifar10", "test", tmp_path)
    assert test.labels.tolist() == written["test_batch"][1]


def test_arrays(tmp_path, monkeypatch):
    arrays = write_arrays(tmp_path / "cifar10" / "cifar10_test.npz")
    monkeypatch.setenv("FSC_DATA", str(tmp_path))
    split = data.load("cifar10", "test")
    assert np.array_equal(split.images, arrays["images"])
    assert split.labels.tolist() == [0, 9, 4] and split.labels.dtype == np.int64
    assert split.classes == CLASSES


def test_digits_are_split_once_and_for_all():
    train, test = data.load("digits", "train"), data.load("digits", "test")
    assert train.images.shape == (1297, 8, 8, 1) and test.images.shape == (500, 8, 8, 1)
    assert train.images.dtype == np.uint8 and train.images.max() == 255
    assert set(np.bincount(test.labels)) <= {48, 49, 50, 51}
    assert train.classes == tuple("0123456789")
    again = data.load("digits", "test")
    assert np.array_equal(again.images, test.images)
    rows = np.concatenate([train.images, test.images]).reshape(1797, -1)
    from sklearn.datasets import load_digits

    original = np.rint(load_digits().data * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, rows)) == sorted(map(bytes, original))


def test_to_tensor_normalises_each_channel():
    images = np.random.default_rng(0).integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    x = data.to_tensor(images, mean, std)
    assert x.shape == (2, 3, 4, 5) and x.dtype == torch.float32 and x.is_contiguous()
    expected = (images / 255 - np.array(mean)) / np.array(std)
    torch.testing.assert_close(x.double(), torch.tensor(expected).permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    ("images", "mean", "std", "message"),
    [
        (np.zeros((2, 4, 4, 3)), [0.5] * 3, [1] * 3, r"images must be uint8 .*got float64"),
        (np.zeros((4, 4, 3), np.uint8), [0.5] * 3, [1] * 3, r"got uint8 \(4, 4, 3\)"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0.5] * 3, [1], "mean must have one .* 1 channels"),
        (np.zeros((2, 4, 4, 3), np.uint8), [0.5] * 3, [1] * 2, "std must have one .*got 2"),
        (np.zeros((2, 4, 4, 1), np.uint8), [0.5], [0.0], r"std must be positive, got \(0.0,\)"),
    ],
)
def test_to_tensor_refuses(images, mean, std, message):
    with pytest.raises(ValueError, match=message):
        data.to_tensor(images, mean, std)


def test_bad_names_and_no_folder(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match="name must be one of cifar10, cifar100, digits, got 'mnist'"
    ):
        data.load("mnist", "train")
    with pytest.raises(ValueError, match="split must be one of train, test, got 'valid'"):
        data.load("digits", "valid")
    monkeypatch.delenv("FSC_DATA", raising=False)
    message = "data_root must name the folder of cifar10, or FSC_DATA be set"
    with pytest.raises(ValueError, match=message):
        data.load("cifar10", "test")
    message = "must name a folder with cifar-10-batches-py, .* or cifar10_test.npz, got"
    with pytest.raises(FileNotFoundError, match=f"load: data_root {message} .*holds neither"):
        data.load("cifar10", "test", tmp_path)
    monkeypatch.setenv("FSC_DATA", str(tmp_path / "absent"))
    with pytest.raises(FileNotFoundError, match=f"^FSC_DATA {message} .*does not exist"):
        data.load("cifar10", "test")


@pytest.mark.parametrize("python2", [False, True])
@pytest.mark.parametrize("parent", ["", "cifar100"])
def test_cifar100_has_fine_labels(tmp_path, python2, parent):
    written = write_cifar100(tmp_path / parent / "cifar-100-python", python2)
    for split, (rows, labels) in written.items():
        read = data.load("cifar100", split, tmp_path)
        assert read.labels.tolist() == labels and read.labels.dtype == np.int64
        assert read.classes == tuple(f"fine{index}" for index in range(100))
        assert np.array_equal(read.images[1, :, :, 2].ravel(), rows[1, 2048:])


def test_published_files(data_root):
    for split, count in (("train", 500), ("test", 1000)):
        read = data.load("cifar10", split, data_root)
        assert np.bincount(read.labels).tolist() == [count] * 10
        assert read.classes[3] == "cat" and read.images.shape == (10 * count, 32, 32, 3)
