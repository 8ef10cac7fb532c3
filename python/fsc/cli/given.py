"""What a compression and its evaluation are given: teacher, images, labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from fsc import models
from fsc.cli import folders
from fsc.cli.trying import first_scores
from fsc.images import data
from fsc.images.checks import device_of
from fsc.images.folder import ImageFolder
from fsc.images.preparation import Preparation
from fsc.images.sampling import FewShotSample
from fsc.models.recognition import recognise

# Among fewer classes the five highest scores say little.
_LEAST_FOR_TOP5 = 10


@dataclass(frozen=True)
class Normalization:
    """What is subtracted from and divides each channel of images between 0 and 1."""

    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True)
class Inputs:
    """What a compression and its evaluation are given.

    Attributes:
        model_name: the network, as --model names it.
        data_name: the images, as --data names them.
        teacher: the pretrained network in evaluation mode.
        normalization: what the teacher expects of images.
        train: the images that the few are drawn from.
        test_images: normalised images, float32 [N, C, H, W], on the CPU wherever the teacher is, or
            a folder of them; empty where nothing can be evaluated.
        test_labels: their classes, int64 [N].
        num_test_available: how many test images the data set has.
        preparation: what is done to images, where it is not what the data set has for all.
        notes: what a command says before its work, a sentence each.
    """

    model_name: str
    data_name: str
    teacher: nn.Module
    normalization: Normalization
    train: data.Split | ImageFolder
    test_images: Tensor | ImageFolder
    test_labels: Tensor
    num_test_available: int
    preparation: Preparation | None = None
    notes: tuple[str, ...] = ()

    @property
    def model_title(self) -> str:
        """The network in tables and sentences: a file by its own name alone."""
        return Path(self.model_name).name

    @property
    def data_title(self) -> str:
        """The images in tables and sentences."""
        return folders.title_of(self.data_name)

    @cached_property
    def known_as(self) -> str | None:
        """The name in `fsc.models` of such a network, whoever built it; None for any other."""
        return self.model_name if self.model_name in models.names() else recognise(self.teacher)

    @cached_property
    def example(self) -> Tensor:
        """One normalised image, float32 [1, C, H, W], where the teacher is."""
        if isinstance(self.test_images, Tensor):
            image = self.test_images[:1]
        else:
            assert isinstance(self.train, ImageFolder)
            image = (self.test_images if len(self.test_images) else self.train)[:1].decoded()
        return image.to(device_of(self.teacher, image))

    def check_runs(self) -> None:
        """Make sure that the teacher runs on the images, before anything is done with it.

        Raises:
            ValueError: it does not.
        """
        _ = self.scores

    @property
    def ranks(self) -> tuple[int, ...]:
        """The k of the top-k accuracies that are measured, 5 only where it says something."""
        many = isinstance(self.train, ImageFolder) and len(self.train.classes) >= _LEAST_FOR_TOP5
        return (1, 5) if many else (1,)

    def check_evaluable(self, purpose: str) -> None:
        """Make sure that accuracies can be measured, for what needs them.

        Raises:
            ValueError: there are no test images with labels.
        """
        if not len(self.test_images):
            raise ValueError(
                f"--data must have labelled images to test on for {purpose}, got "
                f"{self.data_name} without"
            )

    @cached_property
    def scores(self) -> Any:
        """What the teacher gives for the example.

        Raises:
            ValueError: it does not run on it.
        """
        flag = "--size" if folders.is_folder(self.data_name) else "--data"
        return first_scores(self.teacher, self.example, self.model_title, flag)

    def check_scores(self, *, is_all: bool = False) -> None:
        """Make sure that the place of a class among the folders can be its place in the scores.

        Args:
            is_all: whether the command does nothing but evaluate.

        Raises:
            ValueError: the teacher gives no scores, or more or fewer than there are classes.
        """
        scores, count = self.scores, len(self.train.classes)
        without = "" if is_all else "; fsc compress --no-evaluate does without"
        if not isinstance(scores, Tensor) or scores.ndim != 2:
            found = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(
                f"--model must give scores [N, classes] to be evaluated, got {found} of "
                f"{self.model_title}{without}"
            )
        if scores.shape[1] != count:
            raise ValueError(
                f"--data must have one class for each of the {scores.shape[1]:,} scores of "
                f"{self.model_title}, got {count:,} in {self.data_title}"
                f"{without or '; give the images that it was trained for'}"
            )

    @property
    def test_name(self) -> str:
        """The test images in words."""
        return name_of_test(len(self.test_images), self.num_test_available, self.data_title)

    @property
    def has_whole_test(self) -> bool:
        """Whether no test image was left out."""
        return len(self.test_images) == self.num_test_available

    def evaluated_on(self, num_test: int | None) -> Inputs:
        """The same with `num_test` of the test images only; None: all of them.

        Raises:
            ValueError: there are fewer.
        """
        if num_test is None:
            return self
        self.check_evaluable("--test-images")
        if num_test > len(self.test_images):
            raise ValueError(
                f"--test-images must not exceed the {len(self.test_images):,} test images of "
                f"{self.data_title}, got {num_test}"
            )
        images, labels = part_of_test(self.test_images, self.test_labels, num_test)
        return replace(self, test_images=images, test_labels=labels)

    def some_test(self, num_test: int) -> tuple[Tensor, Tensor]:
        """At most so many test images, decoded, with their classes."""
        images, labels = part_of_test(self.test_images, self.test_labels, num_test)
        return (images.decoded() if isinstance(images, ImageFolder) else images), labels

    def files_of(self, sample: FewShotSample) -> ImageFolder | None:
        """The images of a sample as files; None where they do not come from a folder."""
        return self.train.at(sample.indices) if isinstance(self.train, ImageFolder) else None

    def images_of(self, sample: FewShotSample) -> Tensor:
        """The normalised images of a sample, float32 [N, C, H, W], where the teacher is."""
        files = self.files_of(sample)
        if files is not None:
            images = files.decoded()
        else:
            assert isinstance(self.train, data.Split)
            chosen = self.train.images[sample.indices]  # [N, H, W, C]
            images = data.to_tensor(chosen, self.normalization.mean, self.normalization.std)
        return images.to(device_of(self.teacher, images))


def part_of_test(
    images: Tensor | ImageFolder, labels: Tensor, num_test: int
) -> tuple[Tensor | ImageFolder, Tensor]:
    """At most so many test images and their classes, evenly spaced among all.

    Folders and some archives come class after class: their first images would be of few classes.
    """
    count = len(images)
    if num_test >= count:
        return images, labels
    places = [place * count // num_test for place in range(num_test)]
    taken = images[places] if isinstance(images, Tensor) else images.at(places)
    return taken, labels[places]


def name_of_test(number: int, available: int, data_name: str) -> str:
    """Test images in words: 500 test images of digits, 100 of the 500 test images of ...."""
    which = f"{available:,}" if number == available else f"{number:,} of the {available:,}"
    return f"{which} test images of {data_name}"
