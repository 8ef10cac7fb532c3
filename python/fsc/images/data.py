"""Images with labels: CIFAR-10 from files, and the digits that scikit-learn brings along."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from fsc.images.names import DATA_SETS, SPLITS

T = TypeVar("T")

_CIFAR10_SHAPE = (32, 32, 3)
_CIFAR10_FOLDER = "cifar-10-batches-py"
_CIFAR10_ARRAYS = {"train": "cifar10_train5k.npz", "test": "cifar10_test.npz"}
_CIFAR10_BATCHES = {
    "train": tuple(f"data_batch_{index}" for index in range(1, 6)),
    "test": ("test_batch",),
}
_NUM_TEST_DIGITS = 500
# What numpy itself names when it pickles an array; its module has moved between versions.
_RECONSTRUCT = np.empty(0).__reduce__()[0]
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


def load(name: str, split: str, data_root: str | os.PathLike[str] | None = None) -> Split:
    """Read one split of a data set.

    Args:
        name: "cifar10" (32x32 RGB; Krizhevsky 2009) or "digits" (8x8 grey, bundled with
            scikit-learn, needs no file; 1297 training and 500 test images, split once and for all
            with the classes in proportion).
        split: "train" or "test".
        data_root: for "cifar10", the folder that holds `cifar10/cifar10_train5k.npz` and
            `cifar10/cifar10_test.npz`, or the standard python version `cifar-10-batches-py`, alone
            or in `cifar10`; the environment variable FSC_DATA when absent.

    Raises:
        ValueError: an unknown name or split, no folder given, or a damaged file.
        FileNotFoundError: the folder holds neither form of the data.

    Example:
        >>> load("digits", "test").images.shape
        (500, 8, 8, 1)
    """
    if name not in DATA_SETS:
        raise ValueError(f"load: name must be one of {', '.join(DATA_SETS)}, got {name!r}")
    if split not in SPLITS:
        raise ValueError(f"load: split must be one of {', '.join(SPLITS)}, got {split!r}")
    return _digits(split) if name == "digits" else _cifar10(split, data_root)


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
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., None]  # [1797, 8, 8, 1]
    labels = digits.target.astype(np.int64)  # [1797]
    train, test = train_test_split(
        np.arange(len(labels)), test_size=_NUM_TEST_DIGITS, stratify=labels, random_state=0
    )
    chosen = np.sort(train if split == "train" else test)
    return Split(images[chosen], labels[chosen], tuple(str(name) for name in digits.target_names))


def _cifar10(split: str, data_root: str | os.PathLike[str] | None) -> Split:
    given = os.environ.get("FSC_DATA") if data_root is None else data_root
    if not given:
        raise ValueError(
            "load: data_root must name the folder of cifar10, or FSC_DATA be set to it, got neither"
        )
    folders = (Path(given) / "cifar10", Path(given))
    for folder in folders:
        if (folder / _CIFAR10_ARRAYS[split]).is_file():
            return _read(folder / _CIFAR10_ARRAYS[split], _cifar10_arrays)
        if (folder / _CIFAR10_FOLDER).is_dir():
            return _cifar10_folder(folder / _CIFAR10_FOLDER, split)
    source = "FSC_DATA" if data_root is None else "load: data_root"
    fault = "holds neither, alone or in cifar10" if Path(given).is_dir() else "does not exist"
    raise FileNotFoundError(
        f"{source} must name a folder with {_CIFAR10_FOLDER}, the python version of CIFAR-10 "
        f"unpacked, or {_CIFAR10_ARRAYS[split]}, got {given}, which {fault}"
    )


def _cifar10_arrays(path: Path) -> Split:
    with np.load(path, allow_pickle=False) as arrays:
        classes = tuple(str(name) for name in arrays["classes"])
        return _checked(arrays["images"], arrays["labels"], classes)


def _cifar10_folder(folder: Path, split: str) -> Split:
    classes = _read(folder / "batches.meta", _class_names)
    parts = [
        _read(folder / name, lambda path: _python_batch(path, classes))
        for name in _CIFAR10_BATCHES[split]
    ]
    images = np.concatenate([part.images for part in parts])
    labels = np.concatenate([part.labels for part in parts])
    return Split(images, labels, classes)


def _class_names(path: Path) -> tuple[str, ...]:
    return tuple(str(name) for name in _unpickle(path)["label_names"])


def _python_batch(path: Path, classes: tuple[str, ...]) -> Split:
    batch = _unpickle(path)
    rows = np.asarray(batch["data"])  # [N, 3072], the red, green and blue planes one after another
    images = rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)  # [N, 32, 32, 3]
    return _checked(np.ascontiguousarray(images), np.asarray(batch["labels"]), classes)


def _checked(images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> Split:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != _CIFAR10_SHAPE:
        raise ValueError(f"images must be uint8 [N, 32, 32, 3], got {images.dtype} {images.shape}")
    if labels.shape != (len(images),) or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"labels must be integers [{len(images)}], got {labels.dtype} {labels.shape}"
        )
    if len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
        raise ValueError(f"labels must lie between 0 and {len(classes) - 1}, got {labels.max()}")
    return Split(images, labels.astype(np.int64), classes)


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    try:
        return reader(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"cifar10 is incomplete: {path} is missing") from None
    except _READ_ERRORS as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is damaged or no CIFAR-10 file: {reason}") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Admits plain containers and numpy arrays, which is all that the CIFAR-10 batches hold."""

    def find_class(self, module: str, name: str) -> Any:
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _RECONSTRUCT
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is not admitted")


def _unpickle(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        # The files were written by Python 2, whose strings are bytes; latin1 keeps each byte.
        content = _ArrayUnpickler(file, encoding="latin1").load()
    if not isinstance(content, dict):
        raise ValueError(f"expected a dictionary, got {type(content).__name__}")
    return content
