"""Whether a file gives what a network gives, but for rounding."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from fsc.images.joint import Inputs
from fsc.networks.calls import call_of, output_of
from fsc.networks.outputs import difference, tensors_of
from fsc.networks.program_files import Format
from fsc.networks.program_roundings import rounded_otherwise
from fsc.networks.programs import program_of
from fsc.networks.trace_failures import line_of
from fsc.networks.wrappers import dtype_of

# Relative to the largest output, in units of the last place.
_ROUNDINGS = 100
# How many units in the last place images are moved, how often, and how much further outputs may go.
_MOVED, _NUM_MOVES, _MARGIN = 64, 16, 2


def check_alike(
    name: str, kind: Format, network: nn.Module, opened: nn.Module, inputs: Inputs
) -> float:
    """Compare the outputs of a file with those of a network, for one image and for all.

    Args:
        name: of the file, for sentences.
        kind: of the file.
        network: in evaluation mode, on the CPU.
        opened: the file.
        inputs: what both take.

    Returns:
        How far the outputs are apart, relative to the largest.

    Raises:
        ValueError: they are further apart than by rounding, or one does not run.
    """
    first: Inputs = tree_map(lambda leaf: leaf[:1], inputs)
    apart = max(_apart(name, network, opened, given) for given in (first, inputs))
    allowed = _ROUNDINGS * torch.finfo(dtype_of(network)).eps
    if apart > allowed:
        _check_roundings(name, kind, network, inputs)
        # Where a student rounds activations, a last place can move one of them by a whole step.
        allowed = max(allowed, _MARGIN * _unsteadiness(network, inputs))
    if apart > allowed:
        raise ValueError(
            f"export: {name} must give the outputs of student but for rounding, which moves "
            f"them by up to {allowed:.1e} of the largest, got {apart:.1e}; nothing was written"
        )
    return apart


def _apart(name: str, network: nn.Module, opened: nn.Module, inputs: Inputs) -> float:
    """How far the outputs of a file are from those of a network, relative to the largest."""
    expected = _outputs(network, inputs)
    if not expected or not all(output.isfinite().all() for output in expected):
        what = "NaN or Inf" if expected else "no tensor"
        raise ValueError(f"export: student must give finite numbers for images, got {what}")
    try:
        found = _outputs(opened, inputs)
    except Exception as error:  # whatever the program or onnxruntime raises
        raise ValueError(
            f"export: {name} does not run for {_number(inputs)}: {line_of(error)}"
        ) from error
    kinds = [(list(output.shape), output.dtype) for output in expected]
    others = [(list(output.shape), output.dtype) for output in found]
    if kinds != others:
        raise ValueError(
            f"export: {name} must give outputs like those of student, got "
            f"{_unlike(kinds, others)} for {_number(inputs)}; nothing was written"
        )
    return difference(expected, found)


def _unlike(expected: list[tuple[Any, ...]], found: list[tuple[Any, ...]]) -> str:
    """The first that differs of outputs, each a shape and a dtype."""
    if len(expected) != len(found):
        return f"{len(found)} tensors where the student gives {len(expected)}"
    theirs, own = next(pair for pair in zip(expected, found, strict=True) if pair[0] != pair[1])
    shown = 0 if theirs[0] != own[0] else 1
    return f"{own[shown]} where the student gives {theirs[shown]}"


def _number(inputs: Inputs) -> str:
    number = len(tree_leaves(inputs)[0])
    return "one image" if number == 1 else f"{number} images"


def _check_roundings(name: str, kind: Format, network: nn.Module, inputs: Inputs) -> None:
    """Make sure that a file of this kind rounds as the network does.

    Raises:
        ValueError: it does not.
    """

    def through(module: nn.Module, values: Inputs) -> nn.Module:
        kind.write(program_of(module, values), beside)
        return kind.opened(beside)

    with TemporaryDirectory() as folder:
        beside = Path(folder) / f"roundings{Path(name).suffix}"
        found = rounded_otherwise(network, inputs, through)
    if found is not None:
        raise ValueError(
            f"export: {name} must round what layers read as student does, but for one of 1000 "
            f"values by a step, got {found}; nothing was written"
        )


def _unsteadiness(network: nn.Module, inputs: Inputs) -> float:
    """How far the outputs of a network move where the last places of its inputs do.

    Raises:
        ValueError: they move where nothing does.
    """
    generator = torch.Generator().manual_seed(0)
    expected = _outputs(network, inputs)
    own = difference(expected, _outputs(network, inputs))
    if own:
        raise ValueError(
            "export: student must give the same outputs for the same images, got some that are "
            f"{own:.1e} of the largest apart"
        )

    def moved(leaf: Tensor) -> Tensor:
        if not leaf.is_floating_point():
            return leaf
        step = 2 * torch.rand(leaf.shape, generator=generator, dtype=leaf.dtype) - 1
        return leaf * (1 + _MOVED * torch.finfo(leaf.dtype).eps * step)

    tried = (_outputs(network, tree_map(moved, inputs)) for _ in range(_NUM_MOVES))
    return max(difference(expected, outputs) for outputs in tried)


def _outputs(network: nn.Module, inputs: Inputs) -> list[Tensor]:
    found = tensors_of(output_of(network, call_of(inputs)))
    return [each.double() if each.dtype == torch.bool else each for each in found]
