"""Images in folders, decoded only when they are asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
import PIL
import torch
from torch import Tensor
from torch.utils.data import Subset

from fsc.arguments import as_channel_numbers, check_path
from fsc.files import reason
from fsc.images.preparation import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    SUFFIXES,
    Preparation,
    check_is_file,
    dimensions,
)

# Labels of images that have none.
NO_LABEL = -1
TRAIN = "train"
TEST = ("val", "test")


class ImageFolder(Sequence[tuple[Tensor, int]]):
    """Images of a folder with their classes, a sequence that a `torch.utils.data.DataLoader` takes.

    The folder holds a folder for each class, or images without labels. The index of a class is the
    place of its folder among the sorted names. JPEG, PNG and WebP are read, by the ending of their
    names, below a class in whatever depth; hidden files and others are passed over.

    Args:
        path: the folder.
        size: (shorter side, crop) or one number for both; None: as large as they are, which must
            then be the same for all.
        mean: what is subtracted from each channel of values between 0 and 1; ImageNet's by default.
        std: what divides each channel.
        interpolation: "bilinear" or "bicubic", antialiased.
        classes: names that the labels are indices of; the folder may have some of them only. None:
            those of the folder.

    Attributes:
        path: the folder.
        files: paths of the images, sorted by class, then by name.
        labels: index of each one's class, int64 [N]; `NO_LABEL` without classes.
        classes: names of the classes; empty where images have no labels.
        preparation: what is done to an image.

    Raises:
        FileNotFoundError: there is no such folder.
        OSError: it cannot be read.
        ValueError: it holds no image, or images beside folders, a class is empty or unknown, images
            differ in size, or a number makes no sense.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for name in ("cat", "dog"):
        ...     (root / name).mkdir()
        ...     Image.new("RGB", (40, 30)).save(root / name / "1.png")
        >>> images = ImageFolder(root, size=24)
        >>> images[1][0].shape, images[1][1], images.classes
        (torch.Size([3, 24, 24]), 1, ('cat', 'dog'))
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        size: int | tuple[int, int] | None = None,
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
        *,
        interpolation: str = "bilinear",
        classes: Sequence[str] | None = None,
    ) -> None:
        """Lists the folder; no image is decoded."""
        check_path("path", path)
        self.path = Path(path)
        numbers = as_channel_numbers("mean", mean), as_channel_numbers("std", std)
        self.preparation = Preparation(size, *numbers, interpolation)
        self.files, own, self.classes = _listed(self.path, classes)
        self.labels = np.array(own, dtype=np.int64)  # [N]
        if self.preparation.size is None:
            _check_sizes(self.files, self.path)

    @overload
    def __getitem__(self, index: int) -> tuple[Tensor, int]: ...
    @overload
    def __getitem__(self, index: slice) -> ImageFolder: ...
    def __getitem__(self, index: int | slice) -> tuple[Tensor, int] | ImageFolder:
        """One image [C, H, W] with its label, or a part of the folder, which is not decoded."""
        if isinstance(index, slice):
            return self.at(range(len(self))[index])
        return self.preparation.read(self.files[index]), int(self.labels[index])

    def __len__(self) -> int:
        """The number of images."""
        return len(self.files)

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        """Every image with its label, decoded one after another."""
        return (self[index] for index in range(len(self)))

    def at(self, indices: Sequence[int]) -> ImageFolder:
        """The images at some places, not decoded."""
        part = object.__new__(ImageFolder)
        part.__dict__ |= vars(self)
        part.files = [self.files[index] for index in indices]
        part.labels = self.labels[list(indices)]
        return part

    def decoded(self) -> Tensor:
        """All images, float32 [N, C, H, W]; take a slice before, of what there is memory for.

        Raises:
            ValueError: an image is damaged, or there is none.
        """
        if not self.files:
            raise ValueError(f"images of {self.path} must be at least one, got none")
        return torch.stack([self.preparation.read(file) for file in self.files])

    def fingerprint(self) -> str:
        """SHA-256 of what images and labels depend on: every file, and what is done to it.

        Raises:
            OSError: a file cannot be read.
        """
        whole = hashlib.sha256(f"{self.preparation!r} Pillow {PIL.__version__}".encode())
        for file, label in zip(self.files, self.labels, strict=True):
            check_is_file(file)
            try:
                content = file.read_bytes()
            except OSError as error:
                raise OSError(f"image {file} cannot be read: {reason(error)}") from error
            whole.update(f"{label} ".encode() + hashlib.sha256(content).digest())
        return whole.hexdigest()


def folder_of(images: object) -> ImageFolder | None:
    """The folder of images in their order, where they are one, or a `Subset` of one."""
    if isinstance(images, Subset):
        whole = folder_of(images.dataset)
        return None if whole is None else whole.at([int(index) for index in images.indices])
    return images if isinstance(images, ImageFolder) else None


def splits(
    path: str | os.PathLike[str], preparation: Preparation
) -> tuple[ImageFolder, ImageFolder | None]:
    """The images to draw from and those to test on.

    Args:
        path: a folder with `train` and `val`, or `test` where there is no `val`; the indices of
            the classes are those of `train`. Or one folder with a folder for each class, or with
            images without labels.
        preparation: what is done to every image.

    Returns:
        (train, test). Test is None where images have no labels and where there is `train` alone;
        both are the same where the folder is not split.

    Raises:
        OSError: as of `ImageFolder`.
        ValueError: as of `ImageFolder`, or there is a folder of test images and none to draw from.
    """
    root = Path(path)
    _check_folder(root)
    if not (root / TRAIN).is_dir():
        beside = [name for name in TEST if (root / name).is_dir()]
        if beside:
            raise ValueError(
                f"folder {root} must hold {TRAIN}, whose folders give the classes their indices, "
                f"beside {beside[0]}; for images that are not split name {root / beside[0]}"
            )
        whole = _of(root, preparation)
        return whole, whole if whole.classes else None
    train = _of(root / TRAIN, preparation)
    name = next((name for name in TEST if (root / name).is_dir()), None)
    if name is None:
        return train, None
    test = _of(root / name, preparation, train.classes or None)
    return train, test if test.classes else None


def _of(path: Path, preparation: Preparation, classes: Sequence[str] | None = None) -> ImageFolder:
    return ImageFolder(
        path,
        preparation.size,
        preparation.mean,
        preparation.std,
        interpolation=preparation.interpolation,
        classes=classes,
    )


def _listed(
    path: Path, classes: Sequence[str] | None
) -> tuple[list[Path], list[int], tuple[str, ...]]:
    """Files, labels and names of the classes."""
    _check_folder(path)
    try:
        entries = sorted(e for e in path.iterdir() if not e.name.startswith("."))
    except OSError as error:
        raise OSError(f"folder {path} cannot be read: {reason(error)}") from error
    folders = [entry for entry in entries if entry.is_dir()]
    loose = [entry for entry in entries if _is_image(entry.name) and not entry.is_dir()]
    if folders and loose:
        raise ValueError(
            f"folder {path} must hold either images or a folder for each class, got both, "
            f"{loose[0].name} and {folders[0].name}"
        )
    if not folders and not loose:
        raise ValueError(f"folder {path} must hold images ({', '.join(SUFFIXES)}), got none")
    if loose:
        return loose, [NO_LABEL] * len(loose), ()
    names = tuple(folder.name for folder in folders) if classes is None else tuple(classes)
    index_of = {name: index for index, name in enumerate(names)}
    files, labels = [], []
    for folder in folders:
        if folder.name not in index_of:
            raise ValueError(
                f"class {folder.name} of {path} must be one of the {len(names)} of {TRAIN}, which "
                "lacks it"
            )
        found = _images_below(folder)
        files += found
        labels += [index_of[folder.name]] * len(found)
    return files, labels, names


def _images_below(folder: Path) -> list[Path]:
    """The images in a folder and in those below it; each once, however links lead there."""
    found: list[Path] = []
    real = folder.resolve()
    seen = {real, *real.parents}  # a link to what holds the folder leads round in a circle
    for parent, folders, names in os.walk(folder, onerror=_cannot_read, followlinks=True):
        below = {name: Path(parent, name).resolve() for name in sorted(folders)}
        folders.clear()
        for name, path in below.items():
            if not name.startswith(".") and path not in seen:
                folders.append(name)
                seen.add(path)
        found += [Path(parent, name) for name in sorted(names) if _is_image(name)]
    if not found:
        raise ValueError(
            f"class folder {folder} must hold images ({', '.join(SUFFIXES)}), got none"
        )
    return found


def _cannot_read(error: OSError) -> None:
    raise OSError(f"folder {error.filename} cannot be read: {reason(error)}") from error


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def _check_folder(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"folder {path} does not exist")
    if not path.is_dir():
        raise ValueError(f"folder {path} must be a folder, got a file")


def _check_sizes(files: Sequence[Path], folder: Path) -> None:
    """Make sure that all have one size; only their heads are read."""
    first = dimensions(files[0])
    for file in files[1:]:
        other = dimensions(file)
        if other != first:
            raise ValueError(
                f"size must be given for the images of {folder}, which differ: {files[0].name} has "
                f"{first[0]} x {first[1]} pixels, {file.name} {other[0]} x {other[1]}; "
                "size=(256, 224) is usual for ImageNet"
            )
