"""Folders of small images, as users have them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

# Wide, tall, square, smaller than what the network reads, too narrow for any ratio.
SEVERAL_SIZES = [(60, 20), (16, 40), (32, 32), (9, 10), (50, 6), (33, 21)]


def write_image(path: Path, width: int = 12, height: int = 10, seed: int = 0) -> Path:
    """An image of noise around a colour of its own; the ending of the name decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    colour = generator.integers(40, 200, 3)
    pixels = np.clip(colour + generator.normal(0, 20, (height, width, 3)), 0, 255)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def write_classes(
    root: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 3, **size: int
) -> Path:
    """A folder for each class, with so many images each."""
    for label, name in enumerate(names):
        for index in range(count):
            write_image(root / name / f"{index}.png", seed=100 * label + index, **size)
    return root


def write_patterns(root: Path, sizes: Sequence[tuple[int, int]]) -> Path:
    """One image of each width and height, red by its column, green by its row, blue by its number.

    They lie in two classes by turns.
    """
    for index, (width, height) in enumerate(sizes):
        rows, columns = np.mgrid[:height, :width]
        colours = (255 * columns / width, 255 * rows / height, np.full_like(rows, 20 * index))
        path = root / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.stack(colours, 2).astype(np.uint8)).save(path)
    return root
