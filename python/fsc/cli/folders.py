"""From --data folder:PATH to the images that are drawn from and those that are tested on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from fsc.cli import teachers
from fsc.images.folder import ImageFolder, splits
from fsc.images.names import FOLDER
from fsc.images.preparation import Preparation
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
    train, test = splits(data_name.removeprefix(FOLDER), preparation)
    title = title_of(data_name)
    notes = [f"Images of {title}: {preparation}; {source}."]
    if test is None:
        why = "has no images to test on" if train.classes else "has images without labels"
        notes.append(f"{title} {why}: no accuracy is measured.")
    elif test.path == train.path:
        notes.append(f"{title} is not split: drawn and tested are the same images.")
    return Pictures(train, train[:0] if test is None else test, preparation, tuple(notes))
