"""A network from its file, with what the file says of the images that it expects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsc.cli import folders, inputs as cli_inputs, teachers
from fsc.cli.given import Inputs
from fsc.images.preparation import Preparation
from fsc.model_folder import file_in
from fsc.models import factories
from fsc.models.factories import Factory
from fsc.networks import checkpoint
from fsc.networks.tensor_files import read_tensors
from fsc.wording import shown

_PROGRAMS = {".onnx": "ONNX", ".pt2": "torch.export"}


@dataclass(frozen=True)
class Network:
    """A network of a file.

    Attributes:
        model: in evaluation mode.
        factory: what it was made from.
        statistics: mean and std that the file holds; None where it says nothing.
        preparation: of images of a folder, likewise.
        notes: what is to be said of it.
        header: what the file says beside; empty for one that fsc did not write.
    """

    model: nn.Module
    factory: Factory
    statistics: teachers.Statistics | None = None
    preparation: Preparation | None = None
    notes: tuple[str, ...] = ()
    header: Mapping[str, Any] = field(default_factory=dict)

    def tested_on(
        self,
        data_name: str,
        data_root: Path | None,
        size: tuple[int, int] | None,
        normalize: teachers.Statistics | None,
        device: torch.device,
    ) -> Inputs:
        """The network on a device, with the test images that --data, --size and --normalize say.

        Raises:
            ValueError, OSError: the images cannot be read, or the network does not run on them.
        """
        model, name = self.model.to(device), str(self.factory)
        if folders.is_folder(data_name):
            pictures = folders.open_pictures(
                data_name, self.factory, model, size, normalize, self.preparation
            )
            found = cli_inputs.of_pictures(name, data_name, model, pictures)
        else:
            found = cli_inputs.with_teacher(
                name,
                data_name,
                data_root,
                model,
                size=size,
                normalize=normalize or self.statistics,
                drawn_from=False,
            )
        found.check_runs()
        return replace(found, notes=(*self.notes, *found.notes))


def file_of(path: Path) -> Path:
    """The file that a path to read from names: itself, or the weights in a folder.

    Raises:
        OSError, ValueError: there is none, or what stands beside it does not fit.
    """
    if path.is_dir():
        return file_in(path)
    if not path.exists():
        raise FileNotFoundError(f"checkpoint {path} does not exist")
    kind = _PROGRAMS.get(path.suffix.lower())
    if kind is not None:
        raise ValueError(
            f"PATH must be a file of weights, .safetensors or .pt, or the folder that fsc compress "
            f"wrote, got {path}, a program of {kind}; give the file that it was exported from"
        )
    return path


def read(path: Path, data_name: str | None, model_name: str | None) -> Network:
    """Read the network of a file.

    Args:
        path: what fsc wrote, or a checkpoint of a dense network.
        data_name: the images it is for; None: the file says how many classes they have.
        model_name: the network, where the file does not name it.

    Raises:
        ValueError: the file is damaged or does not match, or the network must be named.
        OSError: there is no such file.
        ImportError: the library of the network is missing.
    """
    factory = None if model_name is None else factories.parse(model_name)
    if factory is not None and not _is_of_fsc(path):
        return _dense(path, data_name, factory)
    if path.is_file() and path.suffix != ".safetensors":
        raise ValueError(f"{path} does not say which network it is: name it with --model")
    header = checkpoint.read_metadata(path)
    if header["model"]:
        if factory is not None and str(factory) != header["model"]:
            raise ValueError(
                f"--model must be left out for {path}, which holds a {header['model']}, got "
                f"{factory}"
            )
        factory = factories.parse(header["model"])
        model = checkpoint.load(path)
    elif factory is not None and factory.kind == "fsc":
        # Nothing but its tensors tells what it holds.
        return _dense(path, data_name, factory)
    else:
        factory = factory or _named_in(header, path)
        model = checkpoint.load(path, model=factory.build())
    return _described(model, factory, header, path)


def _dense(path: Path, data_name: str | None, factory: Factory) -> Network:
    """The network of a checkpoint of a dense one; raises what `read` does."""
    if data_name is None:
        return Network(teachers.load_teacher(factory, path)[0], factory)
    model, notes = cli_inputs.read_teacher(str(factory), data_name, None, path)
    return Network(model, factory, notes=notes)


def _named_in(header: dict[str, Any], path: Path) -> Factory:
    """The network of a library that a header names."""
    source = header.get("source")
    factory = factories.of_library(source)
    if factory is None:
        made_from = f", it was made from {source}" if isinstance(source, str) else ""
        raise ValueError(
            f"--model must be given, because {path} names no network of fsc, torchvision or timm"
            f"{made_from}"
        )
    return factory


def _described(model: nn.Module, factory: Factory, header: dict[str, Any], path: Path) -> Network:
    content, words = header.get("normalization"), teachers.widened(model)
    notes = (f"{path.name}: weights of the file{words}.",) if words else ()
    if content is None:
        return Network(model, factory, notes=notes, header=header)
    pair = [content.get(key) if isinstance(content, dict) else None for key in ("mean", "std")]
    if not all(isinstance(values, list) and all(map(_is_number, values)) for values in pair):
        raise ValueError(
            f"{path}: normalization in the header must hold mean and std, a finite number a "
            f"channel each, got {shown(content)}"
        )
    mean, std = tuple(content["mean"]), tuple(content["std"])
    preparation = None
    if header.get("preparation") is not None:
        preparation = teachers.stored_preparation(header["preparation"], mean, std, path)
    return Network(model, factory, (mean, std), preparation, notes, header)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= torch.finfo(torch.float32).max


def _is_of_fsc(path: Path) -> bool:
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    header = read_tensors(path)[1]
    return isinstance(header, dict) and "format" in header
