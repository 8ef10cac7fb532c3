"""From --data folder:PATH to the images that are drawn from and those that are tested on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from fsc.cli import teachers
from fsc.images.folder import TEST, TRAIN, ImageFolder, splits
from fsc.images.names import FOLDER
from fsc.images.preparation import SUFFIXES, Preparation
from fsc.models.factories import Factory


@dataclass(frozen=True)
class Pictures:
    """Both splits of a folder, prepared for a network.

    Attributes:
        train: what the few images are drawn from.
        test: what is tested on; empty where nothing can be evaluated.
        preparation: what is done to an image.
        notes: what was done and what cannot be, a sentence each.
    """

    train: ImageFolder
    test: ImageFolder
    preparation: Preparation
    notes: tuple[str, ...]


def is_folder(data_name: str) -> bool:
    """Whether --data names a folder of images."""
    return data_name.startswith(FOLDER)


def title_of(data_name: str) -> str:
    """A data set in tables and sentences: a folder by its own name alone."""
    if not is_folder(data_name):
        return data_name
    return Path(data_name.removeprefix(FOLDER)).resolve().name or "/"


def open_pictures(
    data_name: str,
    factory: Factory | None,
    model: nn.Module,
    size: tuple[int, int] | None,
    normalize: teachers.Statistics | None,
    stored: Preparation | None = None,
) -> Pictures:
    """List a folder for a network; the arguments are those of `teachers.preparation_for`.

    Raises:
        ValueError, OSError: what `fsc.images.folder.splits` raises, and statistics that do not fit.
    """
    preparation, source = teachers.preparation_for(factory, model, size, normalize, stored)
    train, test = _split(Path(data_name.removeprefix(FOLDER)), preparation)
    title = title_of(data_name)
    notes = [f"Images of {title}: {preparation}; {source}."]
    if test is None:
        why = "has no images to test on" if train.classes else "has images without labels"
        notes.append(f"{title} {why}: no accuracy is measured.")
    elif test.path == train.path:
        notes.append(f"{title} is not split: drawn and tested are the same images.")
    return Pictures(train, train[:0] if test is None else test, preparation, tuple(notes))


def _split(root: Path, preparation: Preparation) -> tuple[ImageFolder, ImageFolder | None]:
    """What `splits` gives; its sentences say what to type instead."""
    try:
        return splits(root, preparation)
    except ValueError as error:
        if str(error).startswith("size must be given"):
            raise ValueError(str(error).replace("size=(256, 224)", "--size 256:224")) from error
        above = None if any((root / name).is_dir() for name in (TRAIN, *TEST)) else _above(root)
        if above is None:
            raise
        raise ValueError(above) from error


def _above(root: Path) -> str | None:
    """What to say of a folder that holds data sets instead of classes; None for any other."""
    below = _folders_in(root) if root.is_dir() else []
    without = [each.name for each in below if not _has_images(each.rglob("*"))]
    sets = ((each, _split_of(each)) for each in below)
    held = next((f"{each} has {what}: --data {FOLDER}{each}" for each, what in sets if what), "")
    # A class alone may be empty, which has a sentence of its own.
    if not without or (not held and len(without) < len(below)):
        return None
    return (
        f"--data must name a folder with {TRAIN} and {TEST[0]}, or with a folder of images for "
        f"each class, got {root}, where {without[0]} has no images{held and f'; {held}'}"
    )


def _split_of(folder: Path) -> str:
    """What makes a folder a data set, in words; "" where it is none."""
    if (folder / TRAIN).is_dir():
        named = [TRAIN, *(name for name in TEST if (folder / name).is_dir())][:2]
        return " and ".join(named)
    classes = _folders_in(folder)
    return (
        "a folder of images for each class"
        if any(_has_images(each.iterdir()) for each in classes)
        else ""
    )


def _folders_in(folder: Path) -> list[Path]:
    return sorted(e for e in folder.iterdir() if e.is_dir() and not e.name.startswith("."))


def _has_images(paths: Iterable[Path]) -> bool:
    return any(each.name.lower().endswith(SUFFIXES) for each in paths)
