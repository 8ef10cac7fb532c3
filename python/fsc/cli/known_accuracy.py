"""Accuracies of teachers, kept between runs: the same network on the same images gives the same."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from fsc.cli.given import Inputs
from fsc.files import read_json, write_json
from fsc.images.checks import device_of
from fsc.images.folder import ImageFolder
from fsc.methods.journal import fingerprint


def folder() -> Path:
    """Return where accuracies are kept: fsc in $XDG_CACHE_HOME, or in ~/.cache without it."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The specification has relative paths ignored.
    root = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    return root / "fsc" / "accuracy"


def identity(inputs: Inputs) -> dict[str, Any]:
    """What the accuracy of a teacher depends on; the fingerprint is of normalised images."""
    images = inputs.test_images
    return {
        "model": inputs.model_name,
        "weights": fingerprint(inputs.teacher.state_dict().values()),
        "images": images.fingerprint()
        if isinstance(images, ImageFolder)
        else fingerprint([images, inputs.test_labels]),
        "num_images": len(inputs.test_images),
        "device": device_of(inputs.teacher, inputs.example).type,
        "torch": torch.__version__,
    }


def find(key: dict[str, Any]) -> float | None:
    """Return the accuracy in percent that was kept for an identity; None where none is usable."""
    try:
        content = read_json(_path(key), "kept accuracy")
    except (OSError, ValueError):
        return None
    number = content.get("correct") if isinstance(content, dict) else None
    # An entry that is damaged or of another network is as good as none: it is measured again.
    if type(number) is not int or content.get("identity") != key:
        return None
    return 100.0 * number / key["num_images"] if 0 <= number <= key["num_images"] else None


def keep(key: dict[str, Any], correct: int) -> None:
    """Keep how many images a teacher names rightly.

    Raises:
        OSError: the folder cannot be written.
    """
    write_json(_path(key), {"identity": key, "correct": correct})


def _path(key: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder() / f"{digest[:32]}.json"
