"""One run: compress from a few images, then count what the student gets right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fsc import compress, method_names, models
from fsc.cli.given import Inputs
from fsc.cli.progress import Reporter
from fsc.cli.settings import Settings
from fsc.cli.teachers import to_header
from fsc.images.augmentation import augmented
from fsc.images.folder import ImageFolder
from fsc.images.names import MIX_LABELS, OF_FILES, Augmentation
from fsc.images.sampling import FewShotSample
from fsc.networks import checkpoint
from fsc.request import identity
from fsc.result import Report, Result
from fsc.training.evaluate import accuracies

# The activations of so many images, 100 of 32 x 32 pixels or 4 of 224 x 224, stay in the caches of
# a CPU: a third faster than 500 of the small ones, three times faster than 100 of the large ones.
_MOST_IMAGES, _MOST_PIXELS = 100, 200_000


@dataclass(frozen=True)
class Accuracy:
    """Shares of all test images in percent; top-5 where it is measured."""

    top1: float
    top5: float | None = None

    def to_dict(self, suffix: str = "") -> dict[str, float]:
        """What a report holds of it."""
        found = {f"top1{suffix}": self.top1}
        return found if self.top5 is None else found | {f"top5{suffix}": self.top5}


@dataclass(frozen=True)
class Run:
    """What one run gave."""

    method: str
    student: nn.Module
    report: Report
    sample: FewShotSample
    accuracy: Accuracy

    def to_dict(self, inputs: Inputs) -> dict[str, Any]:
        """What the JSON report of one run holds."""
        return describe(self.method, self.report, self.sample, inputs) | self.accuracy.to_dict()


def describe(method: str, report: Report, sample: FewShotSample, inputs: Inputs) -> dict[str, Any]:
    """What a report holds before the student is evaluated."""
    return {
        **report.to_dict(),
        "method": method,
        "method_name": method,
        "model": inputs.model_name,
        "data": inputs.data_name,
        "shots": sample.num_shots,
        "ways": sample.num_ways,
        "sample_indices": sample.indices,
    }


def make_student(
    method: str, inputs: Inputs, sample: FewShotSample, settings: Settings, reporter: Reporter
) -> Result:
    """Compress by one method; the student is not evaluated yet.

    Args:
        method: one of `method_names.NAMES`.
        inputs: teacher and images.
        sample: the few images; its seed also seeds the method.
        settings: goal and resources.
        reporter: told of the progress.

    Raises:
        ValueError: something does not fit together; the sentence says what.
    """
    files = _files(method, inputs, sample, settings)
    return compress(
        inputs.teacher,
        _images(inputs, sample, settings) if files is None else files,
        labels=_labels(method, sample, settings),
        method=settings.method(method, inputs),
        **vars(settings.goal),
        batch_size=settings.batch_size,
        memory_budget=settings.memory_budget,
        seed=sample.seed,
        keep_batch_norm=settings.keep_batch_norm,
        progress=reporter.stage(f"{method}, seed {sample.seed}"),
        journal=settings.journal,
    )


def identity_of(
    method: str, inputs: Inputs, sample: FewShotSample, settings: Settings
) -> dict[str, Any]:
    """What `make_student` with the same arguments must share with a run that it goes on with."""
    given, made = (inputs, sample, settings), settings.method(method, inputs)
    shared = (inputs.teacher, _images(*given), made, settings.goal, sample.seed)
    learned, files = _labels(method, sample, settings), _files(method, *given)
    return identity(*shared, learned, files, settings.keep_batch_norm)


def _images(inputs: Inputs, sample: FewShotSample, settings: Settings) -> Tensor:
    """What is compressed from, float32 [N, C, H, W]."""
    images = inputs.images_of(sample)
    if settings.augment is None:
        return images
    kind, copies = settings.augment.kind, settings.augment.copies
    return augmented(images, kind, copies=copies, seed=sample.seed)


def _files(
    method: str, inputs: Inputs, sample: FewShotSample, settings: Settings
) -> ImageFolder | None:
    """The files of what is compressed from, for a method that crops them."""
    crops = settings.views == OF_FILES and method in method_names.WITH_VIEWS
    return inputs.files_of(sample) if crops else None


def check_labels(
    methods: Sequence[str],
    inputs: Inputs,
    augment: Augmentation | None,
    views: str | None = None,
) -> None:
    """Make sure that there are labels for methods that learn them.

    Raises:
        ValueError: one needs them and images have no classes, or images are mixed and labels
            cannot be.
    """
    learned = [name for name in methods if name in method_names.WITH_LABELS]
    if method_names.NEEDS_LABELS in learned and not inputs.train.classes:
        raise ValueError(
            f"--data must have images with classes for --method {method_names.NEEDS_LABELS}, got "
            f"{inputs.data_title} without"
        )
    kind = None if augment is None else augment.kind
    for flag, mixed, given in (("--augment", kind, augment), ("--views", views, views)):
        if learned and inputs.train.classes and mixed in MIX_LABELS:
            raise ValueError(
                f"{flag} must keep labels as they are for --method {learned[0]}, got {given}"
            )


def _labels(method: str, sample: FewShotSample, settings: Settings) -> Tensor | None:
    """Classes of what is compressed from, int64 [N], for a method that learns them."""
    if method not in method_names.WITH_LABELS or not sample.labels:
        return None
    labels = torch.tensor(sample.labels, device="cpu")
    # Those that are made from the images stand behind them all.
    return labels.repeat(1 if settings.augment is None else 1 + settings.augment.copies)


def execute(
    method: str,
    inputs: Inputs,
    sample: FewShotSample,
    settings: Settings,
    reporter: Reporter,
    known: Accuracy | None = None,
) -> Run:
    """Compress by one method and evaluate the student on all test images.

    Takes and raises what `make_student` does; `known` is the student's accuracy, where an equal
    student was evaluated before.
    """
    result = make_student(method, inputs, sample, settings, reporter)
    if known is None:
        title = f"{method}, seed {sample.seed}"
        known = accuracy_on_test(result.student, inputs, reporter, title)
    return Run(method, result.student, result.report, sample, known)


def batch_size_for(inputs: Inputs) -> int:
    """How many test images best go through a network at once."""
    height, width = inputs.example.shape[2:]
    return max(1, min(_MOST_IMAGES, _MOST_PIXELS // (height * width)))


def accuracy_on_test(model: nn.Module, inputs: Inputs, reporter: Reporter, title: str) -> Accuracy:
    """Accuracies in percent on all test images."""
    found = accuracies(
        model,
        inputs.test_images,
        inputs.test_labels,
        inputs.ranks,
        batch_size=batch_size_for(inputs),
        progress=reporter.stage(title),
    )
    return Accuracy(*found)


def header_for(model: nn.Module, inputs: Inputs, **metadata: Any) -> dict[str, Any]:
    """The header of a network's file, with what `fsc evaluate` needs to know of it."""
    known: dict[str, Any] = {"data": inputs.data_name}
    known |= {"normalization": asdict(inputs.normalization)}
    if inputs.preparation is not None:
        known |= {"preparation": to_header(inputs.preparation)}
    is_own = inputs.model_name not in models.names()
    if is_own:
        known |= {"source": inputs.model_name}
    return checkpoint.header_of(model, "" if is_own else inputs.model_name, known | metadata)


def save_model(path: Path, model: nn.Module, inputs: Inputs, **metadata: Any) -> None:
    """Write a network, with what `fsc evaluate` needs to know of it, as one safetensors file.

    Raises:
        OSError: the file cannot be written.
    """
    checkpoint.write(model, path, header_for(model, inputs, **metadata))
