"""Damaged and hostile files of data sets: named in one sentence, without running or growing."""

import os
import pickle

import numpy as np
import pytest
from cifar_files import dump, write_arrays, write_batches, write_cifar100

from fsc.images import data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((3, 28, 28, 3), np.uint8)}, r"images must be uint8 \[N, 32, 32, 3\]"),
        ({"images": np.zeros((3, 32, 32, 3))}, "images must be uint8 .*got float64"),
        ({"labels": np.zeros(2, np.uint8)}, r"labels must be integers \[3\], got uint8 \(2,\)"),
        ({"labels": np.array([0, 1, 10])}, "labels must lie between 0 and 9, got 10"),
        ({"labels": np.array([{}, 1, 2], dtype=object)}, "Object arrays cannot be loaded"),
    ],
)
def test_arrays_of_the_wrong_kind(tmp_path, changes, message):
    write_arrays(tmp_path / "cifar10_train5k.npz", **changes)
    with pytest.raises(ValueError, match=f"cifar10_train5k.npz is damaged.*{message}"):
        data.load("cifar10", "train", tmp_path)


@pytest.mark.parametrize("length", [0, 100, 5000, 9000])
def test_cut_off_arrays(tmp_path, length):
    path = tmp_path / "cifar10_test.npz"
    write_arrays(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="cifar10_test.npz is damaged or no CIFAR-10 file"):
        data.load("cifar10", "test", tmp_path)


def test_damaged_batches(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    write_batches(folder)
    (folder / "test_batch").write_bytes((folder / "test_batch").read_bytes()[:1000])
    with pytest.raises(ValueError, match="test_batch is damaged or no CIFAR-10 file"):
        data.load("cifar10", "test", tmp_path)
    dump(folder / "test_batch", [1, 2], python2=False)
    with pytest.raises(ValueError, match="expected a dictionary, got list"):
        data.load("cifar10", "test", tmp_path)
    (folder / "data_batch_3").unlink()
    with pytest.raises(FileNotFoundError, match="incomplete: .*data_batch_3 is missing"):
        data.load("cifar10", "train", tmp_path)


class Malicious:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


def test_batches_run_no_code(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    write_batches(folder)
    dump(folder / "test_batch", {"data": Malicious(tmp_path / "made")}, python2=False)
    with pytest.raises(ValueError, match="asks for posix.mkdir, which is not admitted"):
        data.load("cifar10", "test", tmp_path)
    assert not (tmp_path / "made").exists()


def lists_of_one_list(depth):
    """Ten to the depth of zeros, in a few hundred bytes."""
    found = [0] * 10
    for _ in range(depth - 1):
        found = [found] * 10
    return found


class Reserved:
    """An array with room for values that never come."""

    def __reduce__(self):
        return np.empty(0).__reduce__()[0], (np.ndarray, (10**12,), b"b")


class Called:
    def __reduce__(self):
        return np.ndarray, ((10**12,),)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("test_batch", {"data": lists_of_one_list(40)}, "data must be an array, got list"),
        ("test_batch", {"labels": lists_of_one_list(40)}, "labels must be a list of integers"),
        ("batches.meta", {"label_names": lists_of_one_list(40)}, "must be a list of texts"),
        ("test_batch", {"data": Reserved()}, "an array in another way than numpy does"),
        ("test_batch", {"data": Called()}, "not callable"),
        ("test_batch", {"data": np.array([{}])}, "an array of something else than integers"),
    ],
)
def test_batches_that_grow_while_they_are_read(tmp_path, file, change, message):
    folder = tmp_path / "cifar-10-batches-py"
    write_batches(folder)
    content = pickle.loads((folder / file).read_bytes())
    dump(folder / file, content | change, python2=False)
    with pytest.raises(ValueError, match=f"{file} is damaged.*{message}"):
        data.load("cifar10", "test", tmp_path)


def test_arrays_that_unpack_to_more_than_a_data_set(tmp_path, monkeypatch):
    write_arrays(tmp_path / "cifar10_test.npz")
    monkeypatch.setattr(data, "_MOST_BYTES", 9000)
    with pytest.raises(ValueError, match="must not unpack to more than 9,000 bytes, got 9,"):
        data.load("cifar10", "test", tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    write_batches(folder)
    (folder / "test_batch").unlink()
    os.mkfifo(folder / "test_batch")
    with pytest.raises(ValueError, match="test_batch is damaged.*it is no file"):
        data.load("cifar10", "test", tmp_path)


def test_cifar100_that_is_damaged_or_not_there(tmp_path, monkeypatch):
    monkeypatch.delenv("FSC_DATA", raising=False)
    with pytest.raises(ValueError, match="data_root must name the folder of cifar100, or FSC_DATA"):
        data.load("cifar100", "test")
    message = "with cifar-100-python, the python version of CIFAR-100 unpacked, got .*, which "
    with pytest.raises(FileNotFoundError, match=f"{message}does not hold it, alone or in cifar100"):
        data.load("cifar100", "test", tmp_path)
    with pytest.raises(FileNotFoundError, match=f"{message}does not exist"):
        data.load("cifar100", "test", tmp_path / "absent")
    folder = tmp_path / "cifar-100-python"
    write_cifar100(folder)
    whole = (folder / "test").read_bytes()
    (folder / "test").write_bytes(whole[:1000])
    with pytest.raises(ValueError, match="test is damaged or no CIFAR-100 file"):
        data.load("cifar100", "test", tmp_path)
    dump(folder / "test", {"data": np.zeros((1, 3072), np.uint8), "labels": [0]}, python2=False)
    with pytest.raises(ValueError, match="test is damaged or no CIFAR-100 file: 'fine_labels'"):
        data.load("cifar100", "test", tmp_path)
    (folder / "meta").unlink()
    with pytest.raises(FileNotFoundError, match="cifar100 is incomplete: .*meta is missing"):
        data.load("cifar100", "train", tmp_path)
