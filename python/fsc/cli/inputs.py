"""From names on the command line to teacher, images, labels and scheme."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from fsc import models, schemes
from fsc.cli import folders, teachers
from fsc.cli.given import Inputs, Normalization
from fsc.images import data
from fsc.images.preparation import Preparation
from fsc.models import factories
from fsc.networks.pretrained import load_pretrained, sizes_in
from fsc.networks.states import Mismatch
from fsc.networks.tensor_files import read_header
from fsc.schemes import AnyScheme

_CHECKPOINTS = (".safetensors", ".pt", ".pth")
_IN_CHANNELS = {"cifar10": 3, "cifar100": 3, "digits": 1}
_NUM_CLASSES = {"cifar10": 10, "cifar100": 100, "digits": 10}
# Mean and deviation of the 1297 training images of the digits, for values between 0 and 1.
_DIGITS_NORMALIZATION = ((0.305,), (0.376,))


@dataclass(frozen=True)
class Source:
    """Where teacher and images come from, as it is typed.

    Attributes:
        model_name: the network.
        data_name: the images.
        data_root: folder of the data and checkpoints.
        checkpoint_path: the teacher's weights.
        device: where the teacher goes.
        size: of images of a folder.
        normalize: what is done to them.
    """

    model_name: str
    data_name: str
    data_root: Path | None
    checkpoint_path: Path | None
    device: torch.device
    size: tuple[int, int] | None
    normalize: teachers.Statistics | None

    def load(self) -> Inputs:
        """Read both; raises what the function `load` does."""
        return load(**vars(self))


def load(
    model_name: str,
    data_name: str,
    data_root: Path | None,
    checkpoint_path: Path | None,
    device: torch.device,
    size: tuple[int, int] | None = None,
    normalize: teachers.Statistics | None = None,
) -> Inputs:
    """Read the teacher and both splits; the teacher goes to the device.

    Raises:
        ValueError: an unknown name, a file that is damaged or does not match, or a teacher that
            does not run on the images.
        ImportError: the library of the network is missing.
        OSError: data or weights are not there.
    """
    teacher, weights = read_teacher(model_name, data_name, data_root, checkpoint_path)
    found = with_teacher(
        model_name, data_name, data_root, teacher.to(device), size=size, normalize=normalize
    )
    found.check_runs()
    return replace(found, notes=(*weights, *found.notes))


def read_teacher(
    model_name: str, data_name: str, data_root: Path | None, checkpoint_path: Path | None
) -> tuple[nn.Module, tuple[str, ...]]:
    """The teacher, and what is to be said of its weights; the arguments are those of `load`."""
    factory = factories.parse(model_name)
    if factory.kind == "fsc" and not folders.is_folder(data_name):
        path = checkpoint_path or find_checkpoint(model_name, data_name, data_root)
        model = build(model_name, data_name)
        try:
            return load_pretrained(model, path), ()
        except Mismatch as error:
            _check_checkpoint(model, path, model_name, data_name)
            raise error
    teacher, weights = teachers.load_teacher(factory, checkpoint_path)
    return teacher, (f"{Path(model_name).name}: {weights}.",)


def _check_checkpoint(model: nn.Module, path: Path, model_name: str, data_name: str) -> None:
    """Say of a checkpoint that does not match what else it is for, where that can be told.

    Raises:
        ValueError: it names another network, or has another number of classes or input channels.
    """
    named = _network_named_in(path)
    if named and named != model_name:
        raise ValueError(f"--model must be {named} for {path}, which holds one, got {model_name}")
    sizes = sizes_in(model, path)
    for count, needed, what in (
        (sizes.num_classes, _NUM_CLASSES[data_name], "classes"),
        (sizes.in_channels, _IN_CHANNELS[data_name], "input channels"),
    ):
        if count is not None:
            raise ValueError(
                f"--data must have images for the {count} {what} of {path}, got {data_name} with "
                f"{needed}"
            )


def _network_named_in(path: Path) -> str:
    """The network of fsc whose weights a file holds; "" where its header does not say so."""
    header = read_header(path) if path.suffix == ".safetensors" else None
    named = header.get("model") if isinstance(header, dict) and "format" in header else None
    return named if isinstance(named, str) else ""


def with_teacher(
    model_name: str,
    data_name: str,
    data_root: Path | None,
    teacher: nn.Module,
    *,
    size: tuple[int, int] | None = None,
    normalize: teachers.Statistics | None = None,
    drawn_from: bool = True,
) -> Inputs:
    """Read both splits for a teacher that is there already.

    Without `drawn_from` the training images are left out, and the test images stand for them.
    """
    if folders.is_folder(data_name):
        pictures = folders.open_pictures(
            data_name, factories.parse(model_name), teacher, size, normalize
        )
        return of_pictures(model_name, data_name, teacher, pictures)
    check_size_unasked(size, data_name)
    normalization, notes = asked_normalization(model_name, data_name, normalize)
    train = data.load(data_name, "train" if drawn_from else "test", data_root)
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
        preparation=Preparation(None, *normalize) if normalize else None,
        notes=notes,
    )


def of_pictures(
    model_name: str, data_name: str, teacher: nn.Module, pictures: folders.Pictures
) -> Inputs:
    """Inputs from the splits of a folder."""
    return Inputs(
        model_name,
        data_name,
        teacher,
        Normalization(pictures.preparation.mean, pictures.preparation.std),
        pictures.train,
        pictures.test,
        torch.from_numpy(pictures.test.labels),
        num_test_available=len(pictures.test),
        preparation=pictures.preparation,
        notes=pictures.notes,
    )


def check_size_unasked(size: tuple[int, int] | None, data_name: str) -> None:
    """Make sure that no size is asked for where images have the right one.

    Raises:
        ValueError: one is.
    """
    if size is not None:
        raise ValueError(
            f"--size must be left out with --data {data_name}, whose images have one size, "
            f"got {size[0]}:{size[1]}"
        )


def asked_normalization(
    model_name: str, data_name: str, normalize: teachers.Statistics | None
) -> tuple[Normalization, tuple[str, ...]]:
    """What --normalize says, or else what the network expects, and what is to be said of it."""
    if normalize is not None:
        count = _IN_CHANNELS[data_name] if len(normalize[0]) == 1 else 1
        return Normalization(normalize[0] * count, normalize[1] * count), ()
    factory = factories.parse(model_name)
    if factory.kind == "fsc" or data_name == "digits":
        return normalization_of(model_name, data_name), ()
    (mean, std), whose = teachers.default_statistics(factory)
    return Normalization(mean, std), (f"Images of {data_name}: mean and std {whose}.",)


def build(model_name: str, data_name: str) -> nn.Module:
    """Build a network with random weights for the images of a data set."""
    return models.build(model_name, _NUM_CLASSES[data_name], _IN_CHANNELS[data_name])


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


def find_scheme(name: str, inputs: Inputs) -> AnyScheme:
    """Return a published scheme by its name, or one of the user's own by the path of its file.

    Raises:
        ValueError: the name is neither, or the scheme does not fit the network.
    """
    if inputs.model_name not in models.names() or name not in schemes.names():
        return schemes.find(name, inputs.teacher, inputs.example)
    with torch.random.fork_rng(devices=[]):
        model = models.build(inputs.model_name)
    return schemes.find(name, model, models.example_inputs(inputs.model_name))
