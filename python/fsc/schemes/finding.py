"""A scheme from what a user calls it: the name of a published one, or the path of a file."""

from __future__ import annotations

import os
from pathlib import Path

from torch import nn

from fsc.images.joint import Inputs
from fsc.models.recognition import recognise
from fsc.networks.wrappers import unwrap
from fsc.scheme_tables import fits, names
from fsc.schemes.blocks import DropBlocks
from fsc.schemes.decoupling import Decoupling
from fsc.schemes.files import from_json
from fsc.schemes.published import for_any, named
from fsc.schemes.quantized import QuantizedScheme
from fsc.schemes.sparse import SparseScheme
from fsc.schemes.structured import Scheme
from fsc.wording import shown


def find(
    given: str | os.PathLike[str], model: nn.Module, example_inputs: Inputs
) -> Scheme | SparseScheme | QuantizedScheme | DropBlocks | Decoupling:
    """Return a published scheme by its name, or one of the user's own by the path of its file.

    Args:
        given: one of `names()`, or the path of a JSON file as `from_json` reads it.
        model: the network that it is for. Published schemes that remove channels are for networks
            of `fsc.models`, which are recognised by their weights; the others fit any network.
        example_inputs: what the network takes; one image is enough.

    Raises:
        ValueError: it is neither, or does not fit the network.
        FileNotFoundError: there is no such file.

    Example:
        >>> from fsc import models
        >>> image = models.example_inputs("resnet56")
        >>> find("res-50", models.build("resnet56"), image).kept["layer1.0.conv1"]
        9
    """
    model = unwrap(model)
    if given in names():
        return _published(str(given), model)
    if Path(given).suffix == ".json" or Path(given).is_file():
        return from_json(given, model, example_inputs)
    raise ValueError(
        f"scheme must be one of {', '.join(names())} or the path of a JSON file, got {shown(given)}"
    )


def _published(name: str, model: nn.Module) -> Scheme | SparseScheme | QuantizedScheme:
    if fits(name):
        return for_any(name, model)
    known = recognise(model)
    if known is None or not fits(name, known):
        fitting = [each for each in names() if fits(each, known)]
        raise ValueError(
            f"scheme must be one of {', '.join(fitting)}, which fit "
            f"{known or type(model).__name__}, or the path of a JSON file, got {shown(name)}"
        )
    return named(name, known)
