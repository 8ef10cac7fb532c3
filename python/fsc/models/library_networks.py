"""Classifiers of torchvision and timm by their names, and how they want their images."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from math import floor
from typing import Any

from torch import nn

from fsc.models.torchvision_import import import_library
from fsc.wording import shown

_NUM_NEAREST = 3
_INTERPOLATIONS = ("bilinear", "bicubic")


def build(
    library: str, name: str, *, pretrained: bool, num_classes: int | None = None
) -> nn.Module:
    """Build a network of a library.

    Args:
        library: "torchvision" or "timm".
        name: as the library calls it; with timm a tag may follow, as in "resnet50.a1_in1k".
        pretrained: with the library's default weights, which it fetches once and keeps.
        num_classes: of the head; None: those of ImageNet, mostly.

    Raises:
        ImportError: the library is missing or does not import.
        ValueError: it has no such network.
        OSError: the weights cannot be fetched, or there are none.
    """
    module = import_library(library)
    _check_name(library, name, module)
    default: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
    if library == "timm":
        make, default["pretrained"] = module.create_model, pretrained
    else:
        make, default["weights"] = module.models.get_model, "DEFAULT" if pretrained else None
    if not pretrained:
        return make(name, **default)
    try:
        return make(name, **default)
    # Each way of fetching has errors of its own.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(
            f"model {library}:{name} has default weights that cannot be fetched ({reason}); give "
            "weights of your own with --checkpoint"
        ) from error


def data_configuration(library: str, name: str, model: nn.Module) -> dict[str, Any] | None:
    """How a library prepares images for a network: size, mean, std and interpolation.

    Args:
        library: "torchvision" or "timm".
        name: of the network.
        model: what `build` gave.

    Returns:
        Keyword arguments of `fsc.images.preparation.Preparation`; None where the library says
        nothing, or asks for images that are not square.
    """
    module = import_library(library)
    if library == "timm":
        import timm.data

        found = timm.data.resolve_model_data_config(model)
        height, width = found["input_size"][-2:]
        if height != width:
            return None
        # timm's crop_pct is the side that is cut out, as a share of the resized shorter side.
        size = (floor(height / found["crop_pct"]), height)
        return _configuration(size, found["mean"], found["std"], found["interpolation"])
    transforms = module.models.get_model_weights(name).DEFAULT.transforms()
    size = (int(transforms.resize_size[0]), int(transforms.crop_size[0]))
    return _configuration(size, transforms.mean, transforms.std, transforms.interpolation.value)


def _configuration(
    size: tuple[int, int], mean: Sequence[float], std: Sequence[float], interpolation: str
) -> dict[str, Any]:
    kind = interpolation if interpolation in _INTERPOLATIONS else "bicubic"
    return {
        "size": size,
        "mean": tuple(map(float, mean)),
        "std": tuple(map(float, std)),
        "interpolation": kind,
    }


def _check_name(library: str, name: str, module: Any) -> None:
    if library == "torchvision":
        # Those for classification alone; the others stand in modules below.
        known = module.models.list_models(module=module.models)
    else:
        architecture, _, tag = name.partition(".")
        known = module.list_models()
        if tag and architecture in known:
            known = module.list_pretrained(f"{architecture}.*")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=_NUM_NEAREST, cutoff=0.4)
        such = ", ".join(close or known[:_NUM_NEAREST])
        raise ValueError(f"model must be one of {library}'s, such as {such}; got {shown(name)}")
