"""A student as a file that runs without fsc: ONNX, or a program of torch.export."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from fsc.arguments import check_module, check_path
from fsc.files import check_writable, write_atomically
from fsc.images.joint import Inputs, check_numbers
from fsc.networks.computed_weights import copy_of
from fsc.networks.entry import check_runs
from fsc.networks.gathering import Images, gathered
from fsc.networks.latency import latencies
from fsc.networks.number_of_images import with_images
from fsc.networks.program_checks import check_alike
from fsc.networks.program_files import FORMATS, Format
from fsc.networks.programs import program_of
from fsc.networks.states import check_finite, check_holds_values
from fsc.networks.trace_failures import line_of
from fsc.networks.wrappers import dtype_of, unwrap

# Of the images that are given, so many are looked at.
_MOST_IMAGES = 7


@dataclass(frozen=True)
class Exported:
    """What was found of a file that `export` wrote.

    Attributes:
        path: of the file.
        format: "ONNX" or "torch.export".
        inputs: what the file takes, the shape of each input without the number of images.
        num_images: numbers of images at which its outputs were compared with the student's.
        difference: the largest of these outputs apart, relative to the largest output.
        kilobytes: size of the file, 1000 bytes each.
        milliseconds: for one image on one thread of the CPU, median of 50; ONNX by onnxruntime.
        milliseconds_student: the same of the student in PyTorch.
    """

    path: Path
    format: str
    inputs: dict[str, tuple[int, ...]]
    num_images: tuple[int, int]
    difference: float
    kilobytes: float
    milliseconds: float
    milliseconds_student: float

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, dicts, strings and numbers."""
        inputs = {name: list(shape) for name, shape in self.inputs.items()}
        return {
            **vars(self),
            "path": str(self.path),
            "inputs": inputs,
            "num_images": list(self.num_images),
        }


def export(student: nn.Module, path: str | os.PathLike[str], images: Images) -> Exported:
    """Write a network as a file that runs without fsc, for any number of images at once.

    The file is read again and run for one image and for several; it appears only where it gives
    what the network gives, but for rounding. One that is there already is replaced.

    Args:
        student: any network that torch.export can follow; it is exported as it is in evaluation
            mode, on the CPU, and is not changed.
        path: ends in .onnx, which takes onnx, onnxscript and onnxruntime, or in .pt2, which
            `torch.export.load` reads.
        images: as for `fsc.compress`; the first 7 are enough. The file takes images of this size.

    Returns:
        What was found: sizes, milliseconds, and how far the outputs are apart.

    Raises:
        ValueError: the ending is another, the network or the images do not fit, the network cannot
            be exported, or the file gives something else.
        ImportError: a package is missing.
        OSError: the file cannot be written.

    Example:
        >>> import fsc, tempfile, torch
        >>> student = torch.nn.Conv2d(3, 4, 3)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     found = fsc.export(student, f"{folder}/student.pt2", torch.randn(7, 3, 16, 16))
        >>> found.inputs, found.num_images, found.difference
        ({'input': (3, 16, 16)}, (1, 7), 0.0)
    """
    check_path("export: path", path)
    path = Path(path)
    kind = format_of("path", path)
    kind.check_installed()
    check_writable(path.parent)
    network = _checked(student)
    kind.check_holds(network)
    inputs = _taken(network, images)
    network = copy_of(network).cpu().eval()
    check_runs("export", inputs, network)
    program = program_of(network, inputs)
    found: list[Exported] = []

    def write(temporary: Path) -> None:
        kind.write(program, temporary)
        try:
            found.append(_examined(path, temporary, kind, network, inputs))
        except RuntimeError as error:  # which is for whoever writes files a full disk
            raise ValueError(
                f"export: {path.name} cannot be compared with student: {line_of(error)}"
            ) from error

    write_atomically(path, write)
    return found[0]


def format_of(argument: str, path: Path) -> Format:
    """The kind of file that a path ends in.

    Raises:
        ValueError: it is none; `argument` is what named the path.
    """
    if path.suffix not in FORMATS:
        raise ValueError(f"{argument} must end in {' or '.join(FORMATS)}, got {path}")
    return FORMATS[path.suffix]


def _checked(student: object) -> nn.Module:
    """The network without wrappers, once it is one that holds finite weights."""
    check_module("export: student", student)
    assert isinstance(student, nn.Module)
    network = unwrap(student)
    if isinstance(network, torch.jit.ScriptModule):
        raise TypeError(
            "export: student must be a network of Python modules, got a program of TorchScript; "
            "pass the network that it was made from"
        )
    check_holds_values("export: student", network)
    check_finite(network.state_dict(), "export: student")
    return network


def _taken(network: nn.Module, images: Images) -> Inputs:
    """What a network takes, of its dtype and on the CPU, at least two and at most a few images."""
    given, _ = gathered("export", images, network, _MOST_IMAGES)
    check_numbers("export", given)
    dtype = dtype_of(network)

    def fitting(leaf: Tensor) -> Tensor:
        leaf = leaf[:_MOST_IMAGES].detach().cpu()
        return leaf.to(dtype) if leaf.is_floating_point() else leaf

    inputs = tree_map(fitting, given)
    number = len(tree_leaves(inputs)[0])
    return with_images(inputs, 1) if number == 1 else inputs


def _examined(path: Path, file: Path, kind: Format, network: nn.Module, inputs: Inputs) -> Exported:
    """What is found of a file that will be called `path`.

    Raises:
        ValueError: it gives something else than the network.
    """
    opened = kind.opened(file)
    leaves = tree_leaves(inputs)
    apart = check_alike(path.name, kind, network, opened, inputs)
    first: Inputs = tree_map(lambda leaf: leaf[:1], inputs)
    own, students = latencies([opened, network], first)
    shapes = [tuple(leaf.shape[1:]) for leaf in leaves]
    return Exported(
        path,
        kind.name,
        dict(zip(opened.names, shapes, strict=True)),
        (1, len(leaves[0])),
        apart,
        file.stat().st_size / 1000,
        own,
        students,
    )
