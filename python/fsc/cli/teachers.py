"""From what --model and --checkpoint say to a network with weights, and how it wants its images."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsc import models
from fsc.cli.trying import channels_read
from fsc.images.preparation import IMAGENET_MEAN, IMAGENET_STD, Preparation
from fsc.models.factories import LIBRARIES, Factory
from fsc.networks.pretrained import load_pretrained, sizes_in
from fsc.networks.states import check_finite
from fsc.wording import shown

# As networks for ImageNet are usually evaluated.
_IMAGENET_SIZE = (256, 224)

Statistics = tuple[tuple[float, ...], tuple[float, ...]]


def load_teacher(factory: Factory, checkpoint_path: Path | None) -> tuple[nn.Module, str]:
    """Build a network with its weights.

    Args:
        factory: the network.
        checkpoint_path: its weights, whose number of classes the network gets, and if it is one of
            fsc that of input channels; None: those of the library, or those that the function of a
            file gives it.

    Returns:
        The network in evaluation mode, and where its weights come from, in words.

    Raises:
        FileNotFoundError: weights must be named, or are not there.
        ValueError, ImportError, OSError: what building and loading raise, and weights that are not
            finite.
    """
    if checkpoint_path is not None:
        model = factory.build().float()  # as weights of half precision are widened
        if factory.kind != "file":
            sizes = sizes_in(model, checkpoint_path)
            classes = sizes.num_classes
            channels = sizes.in_channels if factory.kind == "fsc" else None
            if classes is not None or channels is not None:
                model = factory.build(num_classes=classes, in_channels=channels).float()
        return load_pretrained(model, checkpoint_path), f"weights of {checkpoint_path}"
    if factory.kind == "fsc":
        raise FileNotFoundError(
            f"--checkpoint must name the weights of {factory}, which are not looked for where "
            "images come from a folder"
        )
    is_file = factory.kind == "file"
    model = factory.build(pretrained=not is_file)
    check_finite(model.state_dict(), str(factory))
    source = f"weights as {factory} gives them" if is_file else f"default weights of {factory.kind}"
    return model, source + widened(model)


def widened(model: nn.Module) -> str:
    """Put a network into float32, which images are in, and say so where it was in another dtype."""
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()} - {torch.float32}
    model.float()
    names = sorted(str(dtype).removeprefix("torch.") for dtype in dtypes)
    return f", in float32 instead of {' and '.join(names)}" if names else ""


def preparation_for(
    factory: Factory | None,
    model: nn.Module,
    size: tuple[int, int] | None,
    normalize: Statistics | None,
    stored: Preparation | None = None,
) -> tuple[Preparation, str]:
    """How the images of a folder are prepared for a network.

    Args:
        factory: where the network comes from; None where its file alone is known.
        model: the network.
        size: what --size says.
        normalize: what --normalize says.
        stored: what the file of the network says.

    Returns:
        The preparation, and where it comes from, in words.

    Raises:
        ValueError: the statistics are for another number of channels than the network reads.
    """
    preparation, source = (stored, "as its file says") if stored else _default(factory, model)
    typed = [flag for flag, given in (("--size", size), ("--normalize", normalize)) if given]
    if size is not None:
        preparation = replace(preparation, size=size)
    channels = channels_read(model)
    mean, std = normalize or (preparation.mean, preparation.std)
    if normalize is not None and len(mean) == 1:
        mean, std = mean * channels, std * channels
    elif normalize is None and channels == 1 and len(mean) > 1:
        # Grey is the mean of the colours.
        mean, std = (sum(mean) / len(mean),), (sum(std) / len(std),)
    if len(mean) != channels:
        raise ValueError(
            f"--normalize must have one number for each of the {channels} channels that the "
            f"network reads, got {len(mean)}"
        )
    if len(typed) == 2:
        source = ""
    words = ", ".join([*([source] if source else []), *(f"{flag} as typed" for flag in typed)])
    return replace(preparation, mean=mean, std=std), words


def default_statistics(factory: Factory) -> tuple[Statistics, str]:
    """Mean and std that a network expects where only its name tells, and whose they are."""
    if factory.kind == "fsc":
        return models.normalization(factory.name), f"those of {factory}"
    return (IMAGENET_MEAN, IMAGENET_STD), "those of ImageNet"


def stored_preparation(content: Any, mean: Any, std: Any, path: Path) -> Preparation:
    """What the header of a file of fsc says of the preparation of images.

    Raises:
        ValueError: it was made by hand and makes no sense.
    """
    try:
        size, interpolation = content["size"], content["interpolation"]
        return Preparation(None if size is None else tuple(size), mean, std, interpolation)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(
            f"{path}: preparation in the header must hold size and interpolation, "
            f"got {shown(content)}"
        ) from error


def to_header(preparation: Preparation) -> dict[str, Any]:
    """What `stored_preparation` reads; mean and std stand in the header already."""
    return {key: asdict(preparation)[key] for key in ("size", "interpolation")}


def _default(factory: Factory | None, model: nn.Module) -> tuple[Preparation, str]:
    configuration = None if factory is None else factory.data_configuration(model)
    if factory is not None and configuration is not None:
        library = factory.kind if factory.kind in LIBRARIES else "timm"
        return Preparation(**configuration), f"as {library} has it for this network"
    if factory is None:
        return Preparation(), "ImageNet's mean and std"
    (mean, std), whose = default_statistics(factory)
    is_large = factory.kind == "fsc" and models.image_side(factory.name) == _IMAGENET_SIZE[1]
    size = _IMAGENET_SIZE if is_large else None
    return Preparation(size, mean, std), f"mean and std {whose}"
