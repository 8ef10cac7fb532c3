"""`sweep`: accuracy against one hyper-parameter, or against the number of images."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from fsc.arguments import as_integer, as_number
from fsc.compression import compress
from fsc.images.labels import check_labels
from fsc.images.sampling import sample_per_class, sample_random
from fsc.methods import Method
from fsc.methods.arguments import check_types
from fsc.methods.labelling import label_use
from fsc.request import method_of
from fsc.training.evaluate import accuracy
from fsc.wording import shown

AnyMethod = TypeVar("AnyMethod")
# What is swept that is no hyper-parameter: images a class, and images in all.
SAMPLES = ("shots", "images")


@dataclass(frozen=True)
class SweepRun:
    """One student of a sweep.

    Attributes:
        value: of what is swept.
        seed: of the method, and of the draw where the number of images is swept.
        top1: accuracy on the test images in percent.
        seconds: of compression.
        learning_rate: that the student was trained at, half of what was asked for or less where
            that diverged; None for a method that does not train.
    """

    value: float
    seed: int
    top1: float
    seconds: float
    learning_rate: float | None

    def to_dict(self) -> dict[str, float | int | None]:
        """A row of a table."""
        return asdict(self)


def sweep(
    teacher: nn.Module,
    images: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    *,
    over: str,
    values: Sequence[float],
    method: Method | str | None = None,
    labels: Tensor | None = None,
    seeds: Iterable[int] = (0,),
    test_batch_size: int = 100,
    **options: Any,
) -> list[SweepRun]:
    """Compresses once for every value and seed, and counts what each student gets right.

    The paper of MiR has accuracy against steps (Fig. 2), images (Fig. 3) and learning rates
    (Table 6); `fsc.report.curves_figure` draws them.

    Args:
        teacher: as for `fsc.compress`.
        images: [N, C, H, W], likewise; what is drawn from where the number of images is swept. The
            images of a smaller number are part of those of a larger one with the same seed.
        test_images: normalised images to count on, [M, C, H, W].
        test_labels: their classes, int64 [M].
        over: a hyper-parameter of the method, such as "steps" or "learning_rate"; or "images", how
            many are drawn of all, or "shots", of each class.
        values: that it takes, one after the other.
        method: as for `fsc.compress`.
        labels: classes of the images, int64 [N], for "shots" and for methods that learn them.
        seeds: each gives one student for every value.
        test_batch_size: test images that go through a student at once.
        options: whatever else `fsc.compress` takes: what is to be left, progress and so on.

    Returns:
        One run for every value of every seed, seed after seed.

    Raises:
        ValueError: the method has no such hyper-parameter, a value is out of its range, there are
            fewer images, labels are missing, or what `fsc.compress` raises.
        TypeError: an argument is of the wrong type.

    Example:
        >>> import fsc
        >>> from fsc import models
        >>> teacher = models.build("resnet20").eval()
        >>> images, test, labels = torch.randn(6, 3, 32, 32), torch.randn(2, 3, 32, 32), [3, 1]
        >>> given = (teacher, images, test, torch.tensor(labels))
        >>> runs = fsc.sweep(*given, over="images", values=[2, 4], method="l1")
        >>> [(run.value, run.seed) for run in runs]
        [(2, 0), (4, 0)]
    """
    check_types(teacher, method)
    if not isinstance(seeds, Iterable):
        raise TypeError(f"seeds must be several integers, such as range(3), got {shown(seeds)}")
    chosen, cases = method_of(method, teacher), []
    values, seeds = _checked_values(values), [as_integer("seeds", seed) for seed in seeds]
    learned = labels if label_use(chosen) != "none" else None
    for seed in seeds:
        for value in values:
            if over in SAMPLES:
                indices = _drawn(images, labels, over, value, seed)
                own = None if learned is None else learned[indices.to(learned.device)]
                cases.append((seed, value, chosen, images[indices.to(images.device)], own))
            else:
                cases.append((seed, value, with_setting(chosen, over, value), images, learned))
    _check_test(teacher, test_images, test_labels)
    runs = []
    for seed, value, varied, few, own in cases:
        result = compress(teacher, few, labels=own, method=varied, seed=seed, **options)
        top1 = accuracy(result.student, test_images, test_labels, test_batch_size)
        rates = result.report.learning_rates
        rate = rates[-1] if rates else None
        runs.append(SweepRun(value, seed, top1, result.report.seconds, rate))
    return runs


def settings_of(method: object) -> list[str]:
    """The hyper-parameters of a method that are numbers; a method of one's own may have none."""
    if not is_dataclass(method):
        return []
    return [each.name for each in fields(method) if _is_number(getattr(method, each.name))]


def with_setting(method: AnyMethod, name: str, value: float) -> AnyMethod:
    """The same method with another value of one hyper-parameter.

    Raises:
        ValueError: it has no such hyper-parameter that is a number, or the value is out of range.

    Example:
        >>> import fsc
        >>> with_setting(fsc.MiR(), "steps", 100).steps
        100
    """
    known = settings_of(method)
    if name not in known:
        kind = type(method).__name__
        names = ", ".join([*known, *SAMPLES])
        raise ValueError(f"over must be one of {names} for {kind}, got {shown(name)}")
    if isinstance(getattr(method, name), Integral):
        if value != int(value):
            raise ValueError(f"values must be whole numbers for {name}, got {value:g}")
        value = int(value)
    return replace(method, **{name: value})  # type: ignore[type-var]


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _checked_values(values: Sequence[float]) -> list[float]:
    found = list(values)
    if not found:
        raise ValueError("values must not be empty")
    for value in found:
        if not _is_number(value):
            raise TypeError(f"values must be numbers, got {shown(value)}")
        if not math.isfinite(value):
            raise ValueError(f"values must be finite, got {value}")
    return [as_number("values", value) for value in found]


def _check_test(teacher: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Make sure, before any work, that students can be counted on the test images."""
    if len(images) != len(labels) or not len(images):
        raise ValueError(
            f"test_labels must be [N], one for each of the test images and at least one, got "
            f"{len(labels)} for {len(images)}"
        )
    accuracy(teacher, images[:1], labels[:1])


def _drawn(images: Tensor, labels: Tensor | None, over: str, value: float, seed: int) -> Tensor:
    """Which images a number of them stands for, int64 [n]."""
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a tensor to draw from, got {type(images).__name__}")
    if labels is None and over == "shots":
        raise ValueError("labels must be given to sweep over shots, got none")
    if labels is not None:
        check_labels("sweep", labels, len(images))
    classes = np.zeros(len(images), dtype=np.int64) if labels is None else labels.cpu().numpy()
    if over == "shots":
        most, what = min(np.unique(classes, return_counts=True)[1]), "images of the smallest class"
    else:
        most, what = len(images), "images there are"
    if value != int(value) or not 1 <= value <= most:
        raise ValueError(
            f"values must be whole numbers from 1 to the {most} {what} for {over}, got {value:g}"
        )
    draw = sample_per_class if over == "shots" else sample_random
    return torch.tensor(draw(classes, int(value), seed).indices, device="cpu")
