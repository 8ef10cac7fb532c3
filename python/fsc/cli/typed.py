"""What may be typed for paths, networks, images, sweeps and measures; read without torch."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
from click.types import StringParamType

from fsc.images.names import (
    AUGMENTATIONS,
    DATA_SETS,
    FOLDER,
    MOST_COPIES,
    Augmentation,
    one_of,
)
from fsc.models import factories

IMAGENET = "imagenet"
# What `fsc analyse` can measure of students, its default first.
MEASURES = ("distances", "correlation", "blocks", "pointwise")
_LARGEST_SIDE = 2**13  # a larger image no network is trained on, and few machines hold
_INTEGER = re.compile(r"\d+")


class _Path(click.Path):
    """A path of the right kind, or one that does not exist yet."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path; a sentence in the form of all others where it is of the wrong kind."""
        flag = "" if param is None else param.opts[0]
        if not str(value):
            raise ValueError(f"{flag} must name a path, got an empty text")
        if not self.file_okay and Path(value).is_file():
            raise ValueError(f"{flag} must name a folder, got {value}, which is a file")
        if not self.dir_okay and Path(value).is_dir():
            raise ValueError(f"{flag} must name a file, got {value or '.'}, which is a folder")
        return super().convert(value, param, ctx)


class ReadFile(_Path):
    """A file that is read."""


class WrittenFile(_Path):
    """A file that is written."""


class WrittenFolder(_Path):
    """A folder that results are written to."""


class DataRoot(_Path):
    """The folder of the data and checkpoints."""


class NetworkPath(click.Path):
    """The file of a network, or the folder of a student."""


class Text(StringParamType):
    """A name that is no path."""


class SchemeName(StringParamType):
    """A published scheme, or the path of a file."""


class ModelName(click.ParamType):
    """A network: one of fsc's, torchvision:NAME, timm:NAME or FILE.py:FUNCTION."""

    name = "NAME|LIBRARY:NAME|FILE.py:FUNCTION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it was typed, once it is one."""
        try:
            return str(factories.parse(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


class DataName(click.ParamType):
    """A data set: one that fsc knows, or folder:PATH."""

    name = f"[{'|'.join(DATA_SETS)}|{FOLDER}PATH]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name as it was typed, once it is one."""
        text = str(value)
        if text in DATA_SETS or (text.startswith(FOLDER) and text != FOLDER):
            return text
        self.fail(f"{text!r} is not one of {', '.join(DATA_SETS)}, {FOLDER}PATH", param, ctx)


class Augment(click.ParamType):
    """A kind of augmentation, or KIND:COPIES."""

    name = f"[{'|'.join(AUGMENTATIONS)}][:COPIES]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Augmentation:
        """What it says."""
        found = value if isinstance(value, Augmentation) else Augmentation.parse(str(value))
        if found is None:
            raise ValueError(
                f"--augment must be {one_of(AUGMENTATIONS)}, with :COPIES behind it for more than "
                f"one of each image, at most {MOST_COPIES} and of mirror images one, got {value}"
            )
        return found


class Size(click.ParamType):
    """CROP or SIDE:CROP in pixels."""

    name = "CROP|SIDE:CROP"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """The shorter side that is resized to, and the side of the middle that is cut out."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(":")
        if len(parts) <= 2 and all(_INTEGER.fullmatch(part) for part in parts):
            side, crop = int(parts[0]), int(parts[-1])
            if 1 <= crop <= side <= _LARGEST_SIDE:
                return side, crop
        raise ValueError(
            f"--size must be a positive number of pixels, at most {_LARGEST_SIDE:,}, or SIDE:CROP "
            f"with a crop that is no larger than the side, got {value}"
        )


class Normalization(click.ParamType):
    """imagenet, or MEAN/STD with a number for each channel, between commas."""

    name = f"{IMAGENET}|MEAN/STD"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std for values between 0 and 1."""
        if isinstance(value, tuple):
            return value
        if value == IMAGENET:
            # Here, because what prepares images imports torch.
            from fsc.images.preparation import IMAGENET_MEAN, IMAGENET_STD

            return IMAGENET_MEAN, IMAGENET_STD
        found = _mean_and_std(str(value))
        if found is None:
            raise ValueError(
                f"--normalize must be {IMAGENET} or MEAN/STD, a number for each channel and std "
                f"positive, as in 0.5,0.5,0.5/0.2,0.2,0.2 or 127/128, got {value}"
            )
        return found


class Values(click.ParamType):
    """Positive numbers between commas, as in an example."""

    name = "NUMBER,..."

    def __init__(self, example: str) -> None:
        """With the numbers that sentences show."""
        self.example = example

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers, each once and in order."""
        if isinstance(value, tuple):
            return value
        try:
            found = sorted({float(part) for part in str(value).split(",")})
        except ValueError:
            found = []
        if not found or not all(0 < number < float("inf") for number in found):
            flag = "--values" if param is None else param.opts[0]
            raise ValueError(
                f"{flag} must be positive numbers between commas, as in {self.example}, got {value}"
            )
        return tuple(found)


def _mean_and_std(text: str) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """What is typed as MEAN/STD; where a number is above 1, all are for pixels up to 255."""
    try:
        mean, std = (tuple(map(float, part.split(","))) for part in text.split("/"))
    except ValueError:
        return None
    values = mean + std
    if not all(abs(value) < float("inf") for value in values) or min(std) <= 0:
        return None
    if len(mean) != len(std) and 1 not in (len(mean), len(std)):
        return None
    scale = 255.0 if max(values) > 1 else 1.0
    channels = max(len(mean), len(std))
    mean, std = (part * channels if len(part) == 1 else part for part in (mean, std))
    return tuple(value / scale for value in mean), tuple(value / scale for value in std)


MODEL, DATA, AUGMENT = ModelName(), DataName(), Augment()
SIZE, NORMALIZATION = Size(), Normalization()
VALUES = Values("100,200,400")
SHARES_LEFT, SHARES_GONE = Values("0.8,0.6,0.5"), Values("0.2,0.4,0.6")
COUNTS = Values("2,4,6")
TEXT, SCHEME = Text(), SchemeName()
READ_FILE = ReadFile(dir_okay=False, path_type=Path)
WRITTEN_FILE = WrittenFile(dir_okay=False, path_type=Path)
WRITTEN_FOLDER = WrittenFolder(file_okay=False, path_type=Path)
DATA_ROOT = DataRoot(file_okay=False, path_type=Path)
NETWORK_PATH = NetworkPath(path_type=Path)
