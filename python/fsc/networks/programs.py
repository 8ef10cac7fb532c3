"""A network as a program of torch.export that takes any number of images."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from fsc.images.joint import Inputs
from fsc.networks.calls import call_of
from fsc.networks.number_of_images import has_images, number_of, with_images
from fsc.networks.silence import silence
from fsc.networks.trace_failures import place_of, reason_of_export

# torch.export takes a number of one for fixed.
_NUM_IMAGES = 2


def program_of(network: nn.Module, inputs: Inputs) -> Any:
    """What torch.export finds in a network, an ExportedProgram with an open number of images.

    The program holds weights and operators, and neither the images nor the names of source files.

    Args:
        network: in evaluation mode, on the CPU.
        inputs: what it takes, as many images in every input.

    Raises:
        ValueError: torch.export cannot follow its forward, or that takes one number of images
            only; the sentence says where.
    """
    # Imported where it is needed, because it takes a second.
    from torch.export import Dim, export

    call = tree_map(lambda x: x[:_NUM_IMAGES] if has_images(x) else x, call_of(inputs))
    args, kwargs = with_images(call, _NUM_IMAGES - (number_of(call) or _NUM_IMAGES))
    number = Dim("images")
    shapes = tree_map(lambda x: {0: number} if has_images(x) else None, (args, kwargs))
    by_name = inspect.signature(network.forward).bind(*shapes[0], **shapes[1]).arguments
    found, failures = None, []
    # Python runs the forward at first; where torch reads its code instead, which takes longer, what
    # follows from `len(images)` stays open too.
    for is_read in (False, True):
        try:
            with torch.no_grad(), unheard():
                found = export(network, args, kwargs, dynamic_shapes=dict(by_name), strict=is_read)
            break
        except Exception as error:  # whatever the forward raises on tensors without values
            failures.append(error)
    if found is None:
        raise ValueError(
            f"export: student cannot be exported, torch.export fails{place_of(failures[0])} with: "
            f"{reason_of_export(failures[0])}"
        ) from failures[0]
    return _without_traces(found)


def taking_any_number(program: Any) -> list[bool]:
    """Whether each input of a program holds one value, or several, an image."""
    names = program.graph_signature.user_inputs
    return [has_images(n.meta["val"]) for n in program.graph.nodes if n.name in names]


@contextmanager
def unheard() -> Iterator[None]:
    """Drops what torch says while it exports, which is for its developers."""
    with silence(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _without_traces(program: Any) -> Any:
    """The program without the images and the lines of code that it was made from."""
    program.example_inputs = None
    for module in program.graph_module.modules():
        for node in getattr(module, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)
    return program
