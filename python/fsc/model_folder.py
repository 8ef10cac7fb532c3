"""A network in a folder of its own: weights, what they are in `config.json`, a card for people."""

from __future__ import annotations

import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import asdict
from numbers import Real
from pathlib import Path
from typing import Any

from torch import nn

from fsc.arguments import as_flag, check_folder, check_module, check_path, check_text
from fsc.files import Writers, read_json, write_json, write_together
from fsc.images.preparation import Preparation
from fsc.model_card import card
from fsc.models import factories
from fsc.models.factories import LIBRARIES, Factory
from fsc.networks import checkpoint
from fsc.networks.tensor_files import CHECKSUM, read_header
from fsc.result import Report, Result
from fsc.wording import shown

MODEL_FILE, CONFIG_FILE, CARD_FILE = "model.safetensors", "config.json", "README.md"
FILES = (MODEL_FILE, CONFIG_FILE, CARD_FILE)

# More than any header that fsc writes: one name of a layer after the other.
_MOST_BYTES = 10_000_000


def save_pretrained(
    compressed: Result | nn.Module,
    folder: str | os.PathLike[str],
    *,
    name: str = "",
    description: str = "",
    preparation: Preparation | None = None,
    measured: Mapping[str, float] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a network to a folder that `from_pretrained` and `fsc evaluate` read.

    `model.safetensors` holds the weights and, in its header, all that is needed to rebuild the
    network; `config.json` says the same for people and other tools; `README.md` is a model card:
    what the network was, what is left of it, what was measured, how to load it. All three are
    written or none.

    Args:
        compressed: what `fsc.compress` gave, or a network alone, of which the card knows less.
        folder: it is made if it is missing.
        name: the network, as `--model` names it: one of `fsc.models`, "torchvision:NAME" or
            "timm:NAME", which `from_pretrained` then builds by itself. Left out for a network of
            the user's own.
        description: a sentence or two for the card.
        preparation: how images become what the network reads.
        measured: what was measured -> the value, for the card, as in
            `{"top-1 % on the 10,000 test images of CIFAR-10": 91.85}`.
        overwrite: whether files of these names may be replaced.

    Raises:
        TypeError: an argument is of the wrong type, such as what was measured no number.
        ValueError: the name is unknown or another network's, a weight is NaN or Inf, or the folder
            is a file.
        ImportError: the library that `name` begins with is missing.
        OSError: files of these names are there already, or cannot be written.

    Example:
        >>> import tempfile, fsc, torch
        >>> from fsc import models
        >>> teacher = models.build("resnet14").eval()
        >>> result = fsc.compress(teacher, torch.randn(4, 3, 16, 16), method="l1")
        >>> folder = tempfile.mkdtemp() + "/student"
        >>> fsc.save_pretrained(result, folder, name="resnet14")
        >>> student = fsc.from_pretrained(folder)
    """
    report = compressed.report if isinstance(compressed, Result) else None
    student = compressed.student if isinstance(compressed, Result) else compressed
    if not isinstance(student, nn.Module):
        raise TypeError(
            "save_pretrained: compressed must be what fsc.compress gave, or a torch.nn.Module, "
            f"got {type(compressed).__name__}"
        )
    overwrite = as_flag("save_pretrained: overwrite", overwrite)
    _check_told(description, preparation, measured)
    check_folder("save_pretrained: folder", folder)
    folder = Path(folder)
    factory = _factory(name) if name else None
    own_name = factory.name if factory is not None and factory.kind == "fsc" else ""
    metadata = _metadata(factory, description, preparation, report)
    header = checkpoint.header_of(student, own_name, metadata)
    if not overwrite:
        _check_free(folder)
    if factory is not None and factory.kind in LIBRARIES:
        checkpoint.check_rebuilds(factory.build(), student, header, str(factory))
    write_together(writers(folder, student, header, card(header, report, measured or {})))


def from_pretrained(folder: str | os.PathLike[str], model: nn.Module | None = None) -> nn.Module:
    """Rebuild the network of a folder that `save_pretrained` or `fsc compress` wrote.

    No code of the folder is run. Its `config.json` decides nothing: where it is there, it must say
    what the header of the weights says.

    Args:
        folder: the folder.
        model: the network before compression, for one of the user's own; those of `fsc.models`,
            torchvision and timm are built where it is left out.

    Returns:
        The network on the CPU, in evaluation mode.

    Raises:
        FileNotFoundError: there is no such folder, or no network in it.
        ValueError: a file is damaged, both say different things, or `model` is missing or another
            network.
        ImportError: the library of the network is missing.
    """
    check_path("from_pretrained: folder", folder)
    if model is not None:
        check_module("from_pretrained: model", model)
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"from_pretrained: folder must name a folder, got {folder}")
    path = file_in(Path(folder))
    header = checkpoint.read_metadata(path)
    if model is None and not header["model"]:
        factory = factories.of_library(header.get("source"))
        if factory is None:
            raise ValueError(
                f"from_pretrained: model must be given, because {path} names no network of fsc, "
                "torchvision or timm"
            )
        model = factory.build()
    return checkpoint.load(path, model)


def file_in(folder: Path) -> Path:
    """The weights in a folder, once what stands beside them is known to fit.

    Raises:
        FileNotFoundError: there are none.
        ValueError: `config.json` is no JSON, or does not say what their header says.
    """
    path = folder / MODEL_FILE
    if not path.is_file():
        others = sorted(other.name for other in folder.glob("*.safetensors"))
        raise FileNotFoundError(
            f"folder {folder} must hold {MODEL_FILE}, which fsc compress and fsc.save_pretrained "
            f"write, got {', '.join(others) or 'no network'}; name a file"
        )
    header = read_header(path)
    if (folder / CONFIG_FILE).exists() and isinstance(header, dict):
        _check_config(folder / CONFIG_FILE, header)
    return path


def writers(folder: Path, model: nn.Module, header: Mapping[str, Any], text: str) -> Writers:
    """What writes the files of a network, for `write_together`; the weights come last.

    Args:
        folder: where.
        model: the network.
        header: that `checkpoint.header_of` made.
        text: the card.
    """
    return {
        folder / CONFIG_FILE: lambda path: write_json(path, dict(header)),
        folder / CARD_FILE: lambda path: path.write_text(text, encoding="utf-8"),
        folder / MODEL_FILE: lambda path: checkpoint.write(model, path, header),
    }


def _factory(name: str) -> Factory:
    try:
        factory = factories.parse(name)
    except (ValueError, TypeError, AttributeError):
        factory = None
    if factory is None or factory.kind == "file":
        raise ValueError(
            "save_pretrained: name must be a network of fsc.models, torchvision:NAME or timm:NAME, "
            f"or left out for a network of your own, got {shown(name)}"
        )
    return factory


def _metadata(
    factory: Factory | None,
    description: str,
    preparation: Preparation | None,
    report: Report | None,
) -> dict[str, Any]:
    """What a header holds beside the structure; the keys are those that `fsc compress` writes."""
    found: dict[str, Any] = {}
    if factory is not None and factory.kind in LIBRARIES:
        found["source"] = str(factory)
    if description:
        found["description"] = description
    if preparation is not None:
        said = asdict(preparation)
        found["normalization"] = {key: said[key] for key in ("mean", "std")}
        found["preparation"] = {key: said[key] for key in ("size", "interpolation")}
    if report is not None:
        found |= {"method": report.method_name or report.method, "scheme": report.scheme}
    return found


def _check_told(description: object, preparation: object, measured: object) -> None:
    """Make sure that a card can be made of what the user says."""
    check_text("save_pretrained: description", description)
    if not isinstance(preparation, Preparation | None):
        raise TypeError(
            "save_pretrained: preparation must be a fsc.images.preparation.Preparation, got "
            f"{shown(preparation)}"
        )
    if not isinstance(measured, Mapping | None):
        raise TypeError(
            "save_pretrained: measured must be a dict of what was measured -> the value, got "
            f"{shown(measured)}"
        )
    for what, value in (measured or {}).items():
        check_text("save_pretrained: what measured names", what)
        if not isinstance(value, Real) or isinstance(value, bool) or not math.isfinite(value):
            raise TypeError(
                "save_pretrained: measured must hold finite numbers, "
                f"got {shown(value)} for {what!r}"
            )


def _check_free(folder: Path) -> None:
    there = [name for name in FILES if (folder / name).exists()]
    if there:
        raise FileExistsError(
            f"save_pretrained: folder must not hold {', '.join(there)} unless overwrite=True, got "
            f"{folder}"
        )


def _check_config(path: Path, header: Mapping[str, Any]) -> None:
    """Make sure that `config.json` says all that a header says; what it says beyond is not read."""
    if path.is_file() and path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path} must not exceed {_MOST_BYTES:,} bytes")
    config = read_json(path, "configuration")
    if not isinstance(config, dict):
        raise ValueError(f"{path} must hold a JSON object, got {reprlib.repr(config)}")
    for key in (key for key in header if key != CHECKSUM):
        if key not in config or config[key] != header[key]:
            got = reprlib.repr(config[key]) if key in config else "nothing"
            raise ValueError(
                f"{path}: {key} must be as in the header of {MODEL_FILE}, "
                f"{reprlib.repr(header[key])}, got {got}"
            )
