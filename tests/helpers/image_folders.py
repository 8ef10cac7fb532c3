"""Folders of small images, as users have them."""

from pathlib import Path

import numpy as np
from PIL import Image


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
