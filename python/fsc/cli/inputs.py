"""From names on the command line to teacher, images, labels and scheme."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fsc import models, schemes
from fsc.images import data
from fsc.images.checks import device_of
from fsc.images.sampling import FewShotSample
from fsc.networks.pretrained import load_pretrained
from fsc.schemes import AnyScheme

_CHECKPOINTS = (".safetensors", ".pt", ".pth")
_IN_CHANNELS = {"cifar10": 3, "digits": 1}
# Mean and deviation of the 1297 training images of the digits, for values between 0 and 1.
_DIGITS_NORMALIZATION = ((0.305,), (0.376,))


@dataclass(frozen=True)
class Normalization:
    """What is subtracted from and divides each channel of images between 0 and 1."""

    mean: Sequence[float]
    std: Sequence[float]


@dataclass(frozen=True)
class Inputs:
    """What a compression and its evaluation are given.

    Attributes:
        model_name: name of the network in `fsc.models`.
        data_name: name of the data set in `fsc.images.data`.
        teacher: the pretrained network in evaluation mode.
        normalization: what the teacher expects of images.
        train: the split that the few images are drawn from.
        test_images: normalised images, float32 [N, C, H, W], on the CPU wherever the teacher is.
        test_labels: their classes, int64 [N].
        num_test_available: how many test images the data set has.
    """

    model_name: str
    data_name: str
    teacher: nn.Module
    normalization: Normalization
    train: data.Split
    test_images: Tensor
    test_labels: Tensor
    num_test_available: int

    @property
    def test_name(self) -> str:
        """The test images in words."""
        return name_of_test(len(self.test_images), self.num_test_available, self.data_name)

    def evaluated_on(self, num_test: int | None) -> Inputs:
        """The same with the first `num_test` test images only; None: all of them.

        Raises:
            ValueError: there are fewer.
        """
        images, labels = first_of_test(self.test_images, self.test_labels, num_test, self.data_name)
        return replace(self, test_images=images, test_labels=labels)

    def images_of(self, sample: FewShotSample) -> Tensor:
        """The normalised images of a sample, float32 [N, C, H, W], where the teacher is."""
        chosen = self.train.images[sample.indices]  # [N, H, W, C]
        images = data.to_tensor(chosen, self.normalization.mean, self.normalization.std)
        return images.to(device_of(self.teacher, images))


def load(
    model_name: str,
    data_name: str,
    data_root: Path | None,
    checkpoint_path: Path | None,
    device: torch.device,
) -> Inputs:
    """Read the teacher and both splits; the teacher goes to the device.

    Raises:
        ValueError: an unknown name, or a file that is damaged or does not match.
        FileNotFoundError: data or checkpoint are not there.
    """
    if checkpoint_path is None:
        checkpoint_path = find_checkpoint(model_name, data_name, data_root)
    teacher = load_pretrained(build(model_name, data_name), checkpoint_path)
    return with_teacher(model_name, data_name, data_root, teacher.to(device))


def with_teacher(
    model_name: str, data_name: str, data_root: Path | None, teacher: nn.Module
) -> Inputs:
    """Read both splits for a teacher that is there already."""
    normalization = normalization_of(model_name, data_name)
    train = data.load(data_name, "train", data_root)
    test_images, test_labels = test_split(data_name, data_root, normalization)
    return Inputs(
        model_name,
        data_name,
        teacher,
        normalization,
        train,
        test_images,
        test_labels,
        num_test_available=len(test_images),
    )


def build(model_name: str, data_name: str) -> nn.Module:
    """Build a network with random weights for the images of a data set."""
    return models.build(model_name, in_channels=_IN_CHANNELS[data_name])


def normalization_of(model_name: str, data_name: str) -> Normalization:
    """Return what a dense network expects of the images of a data set."""
    if data_name == "digits":
        return Normalization(*_DIGITS_NORMALIZATION)
    return Normalization(*models.normalization(model_name))


def test_split(
    data_name: str, data_root: Path | None, normalization: Normalization
) -> tuple[Tensor, Tensor]:
    """Return the normalised test images, float32 [N, C, H, W], and their classes, int64 [N].

    Raises:
        ValueError: the images have another number of channels than the normalization is for.
    """
    split = data.load(data_name, "test", data_root)
    channels = split.images.shape[3]
    if channels != len(normalization.mean):
        raise ValueError(
            f"data must have the {len(normalization.mean)} channels that the network reads, "
            f"got {data_name} with {channels}"
        )
    images = data.to_tensor(split.images, normalization.mean, normalization.std)
    return images, torch.from_numpy(split.labels)


def first_of_test(
    images: Tensor, labels: Tensor, num_test: int | None, data_name: str
) -> tuple[Tensor, Tensor]:
    """Return the first test images and their classes, or all of them for None.

    Raises:
        ValueError: there are fewer.
    """
    if num_test is not None and num_test > len(images):
        raise ValueError(
            f"--test-images must not exceed the {len(images):,} test images of {data_name}, "
            f"got {num_test}"
        )
    return images[:num_test], labels[:num_test]


def name_of_test(number: int, available: int, data_name: str) -> str:
    """Test images in words: 500 test images of digits, the first 100 of 500 test images of ...."""
    which = f"{available:,}" if number == available else f"the first {number:,} of {available:,}"
    return f"{which} test images of {data_name}"


def find_checkpoint(model_name: str, data_name: str, data_root: Path | None) -> Path:
    """Return the checkpoint of a network by its name, DATA_MODEL or DATA_MODEL_WHATEVER.

    It lies in the folder of the data, there or in its folder checkpoints. A name without an ending
    goes before one with.

    Raises:
        FileNotFoundError: the folder has none for this network and data.
        ValueError: it has several.
    """
    given = os.environ.get("FSC_DATA") if data_root is None else data_root
    if not given:
        raise FileNotFoundError(
            f"--checkpoint must name the weights of {model_name}, or --data-root or FSC_DATA the "
            "folder that has them; got none of these"
        )
    name, root = f"{data_name}_{model_name}", Path(given)
    if not root.is_dir():
        flag = "FSC_DATA" if data_root is None else "--data-root"
        raise FileNotFoundError(f"{flag} must name a folder, got {root}, which does not exist")
    paths = [
        path
        for folder in (root / "checkpoints", root)
        for path in sorted(folder.glob(f"{name}*"))
        if path.suffix in _CHECKPOINTS
    ]
    exact = [path for path in paths if path.stem == name]
    found = exact or [path for path in paths if path.stem.startswith((f"{name}_", f"{name}-"))]
    if len(found) > 1:
        raise ValueError(
            f"--checkpoint must say which weights of {model_name} to take, got "
            f"{' and '.join(str(path) for path in found)}"
        )
    if not found:
        raise FileNotFoundError(
            f"no checkpoint of {model_name} for {data_name}: looked for {name}*.safetensors, .pt "
            f"and .pth in {root} and its folder checkpoints; name a file with --checkpoint, or "
            "another folder with --data-root or FSC_DATA"
        )
    return found[0]


def find_scheme(name: str, model_name: str) -> AnyScheme:
    """Return a published scheme by its name, or one of the user's own by the path of its file.

    Raises:
        ValueError: the name is neither, or the scheme does not fit the network.
    """
    with torch.random.fork_rng(devices=[]):
        model = models.build(model_name)
    return schemes.find(name, model, models.example_inputs(model_name))
