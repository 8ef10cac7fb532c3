"""Images with labels: CIFAR-10 and CIFAR-100 from files, and the digits of scikit-learn."""

from __future__ import annotations

import functools
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from fsc.images.array_pickle import unpickled
from fsc.images.names import DATA_SETS, SPLITS
from fsc.wording import shown

T = TypeVar("T")

_CIFAR_SHAPE = (32, 32, 3)
_NUM_TEST_DIGITS = 500
# Of the 60,000 images of a whole data set, both splits, with their labels.
_MOST_BYTES = 200_000_000
_READ_ERRORS = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError,
    OverflowError, MemoryError, pickle.UnpicklingError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True)
class Split:
    """The images of one split of a data set.

    Attributes:
        images: uint8 [N, H, W, C], values 0 to 255.
        labels: int64 [N], indices into `classes`.
        classes: the names of the classes.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class _Cifar:
    """What the files of one of the CIFAR data sets are called, and what in them.

    Attributes:
        title: of the data set.
        folder: of its python version, unpacked.
        batches: split -> files of the folder.
        meta: the file with the names of the classes.
        class_names: under which they are there.
        labels: under which they are in a batch.
        arrays: split -> a file of numpy that holds all of it.
    """

    title: str
    folder: str
    batches: Mapping[str, Sequence[str]]
    meta: str
    class_names: str
    labels: str
    arrays: Mapping[str, str] = field(default_factory=dict)


_CIFARS = {
    "cifar10": _Cifar(
        title="CIFAR-10",
        folder="cifar-10-batches-py",
        batches={
            "train": [f"data_batch_{index}" for index in range(1, 6)],
            "test": ["test_batch"],
        },
        meta="batches.meta",
        class_names="label_names",
        labels="labels",
        arrays={"train": "cifar10_train5k.npz", "test": "cifar10_test.npz"},
    ),
    "cifar100": _Cifar(
        title="CIFAR-100",
        folder="cifar-100-python",
        batches={"train": ["train"], "test": ["test"]},
        meta="meta",
        class_names="fine_label_names",
        labels="fine_labels",
    ),
}


def load(name: str, split: str, data_root: str | os.PathLike[str] | None = None) -> Split:
    """Read one split of a data set.

    Args:
        name: "cifar10" or "cifar100" with its fine labels (32x32 RGB; Krizhevsky 2009), or
            "digits" (8x8 grey, bundled with scikit-learn, needs no file; 1297 training and 500 test
            images, split once and for all with the classes in proportion).
        split: "train" or "test".
        data_root: for "cifar10", the folder that holds `cifar10/cifar10_train5k.npz` and
            `cifar10/cifar10_test.npz`, or the standard python version `cifar-10-batches-py`, alone
            or in `cifar10`; for "cifar100" likewise `cifar-100-python`, alone or in `cifar100`; the
            environment variable FSC_DATA when absent.

    Raises:
        ValueError: an unknown name or split, no folder given, or a damaged file.
        FileNotFoundError: the folder holds neither form of the data.

    Example:
        >>> load("digits", "test").images.shape
        (500, 8, 8, 1)
    """
    if name not in DATA_SETS:
        raise ValueError(f"load: name must be one of {', '.join(DATA_SETS)}, got {shown(name)}")
    if split not in SPLITS:
        raise ValueError(f"load: split must be one of {', '.join(SPLITS)}, got {shown(split)}")
    return _digits(split) if name == "digits" else _cifar(name, split, data_root)


def to_tensor(images: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale images to 0...1, normalise each channel, and put the channels first.

    y = (x / 255 - mean) / std

    Args:
        images: uint8 [N, H, W, C].
        mean: C numbers, for values between 0 and 1.
        std: C positive numbers.

    Returns:
        float32 [N, C, H, W], contiguous.

    Raises:
        ValueError: images of another type or rank, or statistics that do not fit the channels.
    """
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ValueError(
            f"to_tensor: images must be uint8 [N, H, W, C], got {images.dtype} {images.shape}"
        )
    channels = images.shape[3]
    for argument, values in (("mean", mean), ("std", std)):
        if len(values) != channels:
            raise ValueError(
                f"to_tensor: {argument} must have one number for each of {channels} channels, "
                f"got {len(values)}"
            )
    if min(std) <= 0:
        raise ValueError(f"to_tensor: std must be positive, got {tuple(std)}")
    x = torch.tensor(images).permute(0, 3, 1, 2).float()  # [N, C, H, W]
    shape = (1, channels, 1, 1)
    x = (x / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    return x.contiguous()


def _digits(split: str) -> Split:
    images, labels, classes, train, test = _all_digits()
    chosen = train if split == "train" else test
    return Split(images[chosen], labels[chosen], classes)


@functools.cache
def _all_digits() -> tuple[np.ndarray, np.ndarray, tuple[str, ...], np.ndarray, np.ndarray]:
    """All images, labels and classes, and which are of which split; read once, for both of them."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # [1797, 8, 8, 1]
    labels = digits.target.astype(np.int64)  # [1797]
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_NUM_TEST_DIGITS, stratify=labels, random_state=0
    )
    classes = tuple(str(name) for name in digits.target_names)
    return images, labels, classes, np.sort(train), np.sort(test)


def _cifar(name: str, split: str, data_root: str | os.PathLike[str] | None) -> Split:
    given = os.environ.get("FSC_DATA") if data_root is None else data_root
    if not given:
        raise ValueError(
            f"load: data_root must name the folder of {name}, or FSC_DATA be set to it, got neither"
        )
    files = _CIFARS[name]
    arrays = files.arrays.get(split)
    for folder in (Path(given) / name, Path(given)):
        if arrays is not None and (folder / arrays).is_file():
            return _read(folder / arrays, name, _arrays)
        if (folder / files.folder).is_dir():
            return _cifar_folder(folder / files.folder, name, split)
    source = "FSC_DATA" if data_root is None else "load: data_root"
    forms = f"{files.folder}, the python version of {files.title} unpacked"
    lacks = "does not hold it"
    if arrays is not None:
        forms, lacks = f"{forms}, or {arrays}", "holds neither"
    fault = f"{lacks}, alone or in {name}" if Path(given).is_dir() else "does not exist"
    raise FileNotFoundError(f"{source} must name a folder with {forms}, got {given}, which {fault}")


def _arrays(path: Path) -> Split:
    _check_unpacked(path)
    with np.load(path, allow_pickle=False) as arrays:
        classes = tuple(str(name) for name in arrays["classes"])
        return _checked(arrays["images"], arrays["labels"], classes)


def _check_unpacked(path: Path) -> None:
    """Make sure that an archive does not unpack to more than any part of the data set has."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > _MOST_BYTES:
        raise ValueError(f"it must not unpack to more than {_MOST_BYTES:,} bytes, got {unpacked:,}")


def _cifar_folder(folder: Path, name: str, split: str) -> Split:
    files = _CIFARS[name]

    def class_names(path: Path) -> tuple[str, ...]:
        found = unpickled(path)[files.class_names]
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise ValueError(f"{files.class_names} must be a list of texts")
        return tuple(found)

    classes = _read(folder / files.meta, name, class_names)

    def batch(path: Path) -> Split:
        content = unpickled(path)
        rows, given = content["data"], content[files.labels]
        # Lists of lists of one list would grow without end where they become an array.
        if not isinstance(rows, np.ndarray):
            raise ValueError(f"data must be an array, got {type(rows).__name__}")
        if not isinstance(given, list) or not all(type(label) is int for label in given):
            raise ValueError(f"{files.labels} must be a list of integers")
        # [N, 3072], red, green and blue plane after another
        images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # [N, 32, 32, 3]
        labels = np.array(given, dtype=np.int64)
        return _checked(np.ascontiguousarray(images), labels, classes)

    parts = [_read(folder / each, name, batch) for each in files.batches[split]]
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return Split(images, labels, classes)


def _checked(images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Split:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != _CIFAR_SHAPE:
        raise ValueError(f"images must be uint8 [N, 32, 32, 3], got {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be integers [{len(images)}], got {labels.dtype} {labels.shape}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
        raise ValueError(f"labels must lie between 0 and {len(classes) - 1}, got {labels.max()}")
    return Split(images, labels.astype(np.int64), classes)


def _read(path: Path, name: str, reader: Callable[[Path], T]) -> T:
    if not path.exists():
        raise FileNotFoundError(f"{name} is incomplete: {path} is missing")
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("it is no file")
        return reader(path)
    except _READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        title = _CIFARS[name].title
        raise ValueError(f"{path} is damaged or no {title} file: {reason}") from error
