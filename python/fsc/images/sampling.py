"""Choosing the few images, reproducibly, and writing down which ones they were."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from fsc.files import read_json, write_json
from fsc.wording import shown


@dataclass(frozen=True)
class FewShotSample:
    """Which images of a training split were chosen, and how.

    Attributes:
        indices: positions in the training split.
        labels: their classes, in the same order; empty where images have none.
        seed: the seed of the draw.
        num_shots: images a class, or None for a draw that ignores the classes.
        num_images: images in all.
        dataset: name of the data set.
        files: paths of the images in its folder; empty where it has no folder.
        num_ways: classes that were drawn before their images; None: all of them, or none at all.
    """

    indices: list[int]
    labels: list[int]
    seed: int
    num_shots: int | None
    num_images: int
    dataset: str
    files: list[str] = field(default_factory=list)
    num_ways: int | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the sample as JSON.

        Raises:
            OSError: the file cannot be written.
        """
        write_json(path, asdict(self))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FewShotSample:
        """Read a sample that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is damaged or holds no sample.
        """
        content = read_json(path, "sample file")
        fault = _fault(content)
        if fault is not None:
            raise ValueError(f"sample file {path} holds no few-shot sample: {fault}")
        return cls(**content)


def sample_per_class(
    labels: np.ndarray,
    num_shots: int,
    seed: int,
    dataset: str = "",
    classes: Sequence[str] = (),
    *,
    num_ways: int | None = None,
) -> FewShotSample:
    """Draw `num_shots` images of every class, or of `num_ways` classes, without replacement.

    numpy's default generator (PCG64) permutes each class once, classes in ascending order, and the
    first images are taken: the sample of a smaller `num_shots` is part of that of a larger one.
    Another of the same seed permutes the classes, and the first of those that have so many images
    are taken: fewer classes are part of more, each with the images that it has among all.

    Args:
        labels: class of every image of the training split, integers [N].
        num_shots: images a class (K in the papers), at least 1.
        seed: not negative; the same seed and labels give the same sample.
        dataset: name of the data set, for the record.
        classes: their names, for the sentence.
        num_ways: how many classes (N-way-K-shot), at least 1; None: all.

    Returns:
        The sample, class after class in ascending order.

    Raises:
        ValueError: a bad argument, a class with fewer images than asked for, or too few classes
            with as many.

    Example:
        >>> sample_per_class(np.array([0, 1, 0, 1, 1]), 2, seed=0).labels
        [0, 0, 1, 1]
    """
    labels = _checked_labels("sample_per_class", labels, seed)
    if num_shots < 1:
        raise ValueError(f"sample_per_class: num_shots must be at least 1, got {num_shots}")
    present, counts = np.unique(labels, return_counts=True)
    if num_ways is not None:
        drawn = _drawn_classes(present[counts >= num_shots], num_ways, num_shots, seed)
    else:
        drawn = present
        for label, count in zip(present, counts, strict=True):
            if count < num_shots:
                raise ValueError(
                    f"sample_per_class: num_shots must not exceed the {count} images of class "
                    f"{classes[label] if classes else label}, got {num_shots}"
                )
    generator = np.random.default_rng(seed)
    every = [generator.permutation(np.flatnonzero(labels == c))[:num_shots] for c in present]
    chosen = [own for own, label in zip(every, present, strict=True) if label in drawn]
    sample = _sample(np.concatenate(chosen), labels, seed, num_shots, dataset)
    return replace(sample, num_ways=num_ways)


def _drawn_classes(large: np.ndarray, num_ways: int, num_shots: int, seed: int) -> np.ndarray:
    """So many of the classes that have enough images."""
    if num_ways < 1:
        raise ValueError(f"sample_per_class: num_ways must be at least 1, got {num_ways}")
    if num_ways > len(large):
        images = "1 image" if num_shots == 1 else f"{num_shots} images"
        raise ValueError(
            f"sample_per_class: num_ways must not exceed the {len(large)} classes that have "
            f"{images} or more, got {num_ways}"
        )
    return np.random.default_rng([seed, 1]).permutation(large)[:num_ways]


def sample_random(
    labels: np.ndarray, num_images: int, seed: int, dataset: str = ""
) -> FewShotSample:
    """Draw `num_images` images without replacement and without regard to their classes.

    numpy's default generator (PCG64) permutes all images and the first ones are taken: a smaller
    sample is the beginning of a larger one.

    Args:
        labels: class of every image of the training split, integers [N]; kept for the record only.
        num_images: images in all (N in the papers), at least 1.
        seed: not negative; the same seed and number of images in the split give the same sample.
        dataset: name of the data set, for the record.

    Raises:
        ValueError: a bad argument, or fewer images than asked for.
    """
    labels = _checked_labels("sample_random", labels, seed)
    if not 1 <= num_images <= len(labels):
        raise ValueError(
            f"sample_random: num_images must lie between 1 and the {len(labels)} images there are, "
            f"got {num_images}"
        )
    chosen = np.random.default_rng(seed).permutation(len(labels))[:num_images]
    return _sample(chosen, labels, seed, None, dataset)


def _checked_labels(function: str, labels: np.ndarray, seed: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or len(labels) == 0 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{function}: labels must be integers [N] with N at least 1, "
            f"got {labels.dtype} {labels.shape}"
        )
    if seed < 0:
        raise ValueError(f"{function}: seed must not be negative, got {seed}")
    return labels


def _sample(
    chosen: np.ndarray, labels: np.ndarray, seed: int, num_shots: int | None, dataset: str
) -> FewShotSample:
    return FewShotSample(
        indices=chosen.tolist(),
        labels=labels[chosen].tolist(),
        seed=seed,
        num_shots=num_shots,
        num_images=len(chosen),
        dataset=dataset,
    )


def _fault(content: Any) -> str | None:
    fields = set(FewShotSample.__dataclass_fields__)
    # Samples of earlier versions lack these.
    if not isinstance(content, dict) or set(content) | {"files", "num_ways"} != fields:
        return f"expected an object with exactly {', '.join(FewShotSample.__dataclass_fields__)}"
    if type(content["seed"]) is not int:
        return f"seed must be an integer, got {content['seed']!r}"
    for key in ("num_shots", "num_ways"):
        value = content.get(key)
        if value is not None and type(value) is not int:
            return f"{key} must be an integer or null, got {shown(value)}"
    if not isinstance(content["dataset"], str):
        return f"dataset must be a text, got {content['dataset']!r}"
    for key in ("indices", "labels"):
        values = content[key]
        if not isinstance(values, list) or not all(type(v) is int and v >= 0 for v in values):
            return f"{key} must be a list of integers that are not negative"
    if content["labels"] and len(content["indices"]) != len(content["labels"]):
        return "indices and labels must be equally long"
    files = content.get("files", [])
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        return "files must be a list of texts"
    if content["num_images"] != len(content["indices"]):
        return f"num_images must be {len(content['indices'])}, got {content['num_images']}"
    if len(set(content["indices"])) != len(content["indices"]):
        return "indices must not repeat"
    return None
