"""What the header of a file says of a network's structure, where its tensors do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from fsc.networks.blocks import RESTS, drop_blocks, dropped_of
from fsc.networks.decoupling import decoupled_of, split_layers
from fsc.networks.open_sizes import set_size, sizes_of
from fsc.networks.plain import example_shapes, plain_for_shapes, rewritings
from fsc.networks.rewriting import EXPORTED
from fsc.wording import shown

STRUCTURE = ("plain", "read_by_export", "sizes", "dropped", "decoupled")
MAX_COUNT = 2**31 - 1


def structure_of(model: nn.Module) -> dict[str, Any]:
    """The part of a header that says what was rewritten, resized, dropped and decoupled."""
    header: dict[str, Any] = {}
    shapes = example_shapes(model)
    if shapes is not None:
        header["plain"] = shapes
        header["read_by_export"] = _exported(model)
    sizes, dropped, decoupled = sizes_of(model), dropped_of(model), decoupled_of(model)
    if sizes:
        header["sizes"] = sizes
    if dropped:
        header["dropped"] = dropped
    if decoupled:
        header["decoupled"] = decoupled
    return header


def as_saved(model: nn.Module, header: Mapping[str, Any], path: Path) -> nn.Module:
    """Rewrite a network where the one that was saved had been rewritten.

    Raises:
        ValueError: the header is damaged, or is not of such a network.
    """
    if "plain" not in header:
        return model
    try:
        made = plain_for_shapes(model, header["plain"])
    except ValueError as error:
        raise ValueError(f"{path}: plain in the header: {error}") from error
    if "read_by_export" in header:
        _check_exported(made, header["read_by_export"], path)
    return made


def _check_exported(made: nn.Module, wanted: Any, path: Path) -> None:
    """Tensors alone do not tell a network from the same without its hooks."""
    if not isinstance(wanted, list) or not all(isinstance(name, str) for name in wanted):
        raise ValueError(
            f"{path}: read_by_export in the header must be a list of names, got {shown(wanted)}"
        )
    found = _exported(made)
    if wanted != found:
        of = [", ".join(name or "the whole" for name in each) or "none" for each in (wanted, found)]
        raise ValueError(
            f"{path}: model must be the network that was compressed, with its hooks, if any: "
            f"torch.export had to read {of[0]} of that one, and of this one {of[1]}"
        )


def _exported(model: nn.Module) -> list[str]:
    """The modules in whose place is a graph that torch.export found, "" for the whole network."""
    return sorted({each.name for each in rewritings(model) if each.became == EXPORTED})


def drop_as_saved(model: nn.Module, dropped: Any, path: Path) -> None:
    """Take the blocks out of a network that the one that was saved had lost, in place.

    Raises:
        ValueError: the header is damaged, or is not of such a network.
    """
    known = isinstance(dropped, dict) and all(rest in RESTS for rest in dropped.values())
    if not known:
        raise ValueError(
            f"{path}: dropped in the header must map blocks to {' or '.join(RESTS)}, got "
            f"{shown(dropped)}"
        )
    try:
        drop_blocks(model, dropped)
    except ValueError as error:
        raise ValueError(f"{path}: dropped in the header: {error}") from error


def split_as_saved(model: nn.Module, decoupled: Any, path: Path) -> None:
    """Make two layers of the convolutions that were two in the network that was saved, in place.

    Raises:
        ValueError: the header is damaged, or is not of such a network.
    """
    known = isinstance(decoupled, dict) and all(type(t) is int for t in decoupled.values())
    if not known:
        raise ValueError(
            f"{path}: decoupled in the header must map layers to integers, got {shown(decoupled)}"
        )
    try:
        split_layers(model, decoupled)
    except ValueError as error:
        raise ValueError(f"{path}: decoupled in the header: {error}") from error


def take_sizes(model: nn.Module, sizes: Any, path: Path) -> None:
    """Give a network the sizes that no tensor tells, in place.

    Raises:
        ValueError: the header is damaged, or is not of such a network.
    """
    known = sizes_of(model)
    if not isinstance(sizes, dict) or not sizes.keys() <= known.keys():
        raise ValueError(
            f"{path}: sizes in the header must be those of the network, got {shown(sizes)}"
        )
    for name, size in sizes.items():
        if type(size) is not int or not 0 <= size <= MAX_COUNT:
            raise ValueError(
                f"{path}: {name} of sizes in the header must be an integer from 0 to {MAX_COUNT}, "
                f"got {shown(size)}"
            )
        set_size(model, name, size)
