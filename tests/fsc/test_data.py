import io
import os
import pickle

import numpy as np
import pytest
import torch

from fsc.images import data

CLASSES = tuple(f"class{index}" for index in range(10))


class Python2Pickler(pickle._Pickler):
    """Writes strings and bytes alike as Python 2 did, and numpy's functions at their old home."""

    dispatch = dict(pickle._Pickler.dispatch)

    def save_string(self, value):
        raw = value if isinstance(value, bytes) else value.encode("latin1")
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[str] = save_string
    dispatch[bytes] = save_string


def dump(path, content, python2):
    if not python2:
        path.write_bytes(pickle.dumps(content, protocol=4))
        return
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    path.write_bytes(buffer.getvalue().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def write_batches(folder, python2=False, images_per_batch=4):
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    dump(folder / "batches.meta", {"label_names": list(CLASSES)}, python2)
    written = {}
    for name in [f"data_batch_{index}" for index in range(1, 6)] + ["test_batch"]:
        rows = generator.integers(0, 256, (images_per_batch, 3072)).astype(np.uint8)
        labels = generator.integers(0, 10, images_per_batch).tolist()
        dump(folder / name, {"data": rows, "labels": labels, "filenames": ["a.png"]}, python2)
        written[name] = (rows, labels)
    return written


def write_arrays(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {
        "images": np.arange(3 * 3072).astype(np.uint8).reshape(3, 32, 32, 3),
        "labels": np.array([0, 9, 4], dtype=np.uint8),
        "classes": np.array(CLASSES),
    } | changes
    np.savez(path, **arrays)
    return arrays


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


def write_cifar100(folder, python2=False):
    folder.mkdir(parents=True)
    names = [f"fine{index}" for index in range(100)]
    coarse = [f"coarse{index}" for index in range(20)]
    dump(folder / "meta", {"fine_label_names": names, "coarse_label_names": coarse}, python2)
    generator = np.random.default_rng(0)
    written = {}
    for split, count in (("train", 6), ("test", 3)):
        rows = generator.integers(0, 256, (count, 3072)).astype(np.uint8)
        labels = generator.integers(50, 100, count).tolist()
        batch = {"data": rows, "fine_labels": labels, "coarse_labels": [0] * count}
        dump(folder / split, batch, python2)
        written[split] = (rows, labels)
    return written


@pytest.mark.parametrize("python2", [False, True])
@pytest.mark.parametrize("parent", ["", "cifar100"])
def test_cifar100_has_fine_labels(tmp_path, python2, parent):
    written = write_cifar100(tmp_path / parent / "cifar-100-python", python2)
    for split, (rows, labels) in written.items():
        read = data.load("cifar100", split, tmp_path)
        assert read.labels.tolist() == labels and read.labels.dtype == np.int64
        assert read.classes == tuple(f"fine{index}" for index in range(100))
        assert np.array_equal(read.images[1, :, :, 2].ravel(), rows[1, 2048:])


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


def test_published_files():
    if not os.environ.get("FSC_DATA"):
        pytest.skip("FSC_DATA is not set")
    for split, count in (("train", 500), ("test", 1000)):
        read = data.load("cifar10", split)
        assert np.bincount(read.labels).tolist() == [count] * 10
        assert read.classes[3] == "cat" and read.images.shape == (10 * count, 32, 32, 3)
