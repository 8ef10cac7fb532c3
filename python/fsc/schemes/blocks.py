"""Schemes that drop whole residual blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from fsc.arguments import as_count, as_number, check_text
from fsc.images.joint import Inputs
from fsc.networks.blocks import Blocks, Rest, drop_blocks, find_blocks
from fsc.schemes.reasons import commonest
from fsc.wording import shown


@dataclass(frozen=True)
class DropBlocks:
    """Which residual blocks go, or how many; all others stay as they are.

    Blocks that are not named are chosen on the images of a compression, see
    `fsc.schemes.recoverability`; the scheme then has their names.

    Attributes:
        count: how many go, the cheapest ones.
        latency: share of the network's latency that is to stay, measured for one image on one
            thread, above 0 and below 1; the cheapest blocks go until no more than that is left.
        blocks: names of those that go.
        name: what reports call it.

    Raises:
        ValueError: not exactly one of count, latency and blocks is given, or it is out of range.
        TypeError: it is of the wrong type.

    Example:
        >>> DropBlocks(count=2).name
        'blocks-2'
    """

    count: int | None = None
    latency: float | None = None
    blocks: Sequence[str] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Refuses what no network can be asked for."""
        check_text("DropBlocks: name", self.name)
        values = {"count": self.count, "latency": self.latency, "blocks": self.blocks}
        given = [f"{name}={value!r}" for name, value in values.items() if value is not None]
        if len(given) != 1:
            raise ValueError(
                "DropBlocks: exactly one of count, latency and blocks must be given, got "
                f"{' and '.join(given) or 'none'}"
            )
        if self.blocks is not None:
            object.__setattr__(self, "blocks", _names(self.blocks))
        if self.count is not None:
            object.__setattr__(self, "count", as_count("DropBlocks: count", self.count))
        if self.latency is not None:
            object.__setattr__(self, "latency", as_number("DropBlocks: latency", self.latency))
        if self.latency is not None and not 0 < self.latency < 1:
            raise ValueError(
                f"DropBlocks: latency must be above 0 and below 1, got {self.latency:g}"
            )
        if not self.name:
            object.__setattr__(self, "name", self._own_name())

    def _own_name(self) -> str:
        if self.latency is not None:
            return f"latency-{round(100 * self.latency, 4):g}"
        return f"blocks-{len(self.blocks or ()) if self.count is None else self.count}"


def _names(blocks: Any) -> tuple[str, ...]:
    listed = isinstance(blocks, Sequence) and not isinstance(blocks, str)
    if not listed or not all(isinstance(name, str) for name in blocks):
        raise TypeError(f"DropBlocks: blocks must be a list of names, got {shown(blocks)}")
    names: tuple[str, ...] = tuple(blocks)
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"DropBlocks: blocks must be one name or more, each once, got {list(names)}"
        )
    return names


def check_blocks(scheme: DropBlocks, model: nn.Module, example_inputs: Inputs) -> Blocks:
    """Make sure that a scheme fits a network, before any work is done.

    Args:
        scheme: what goes.
        model: the network, in plain modules.
        example_inputs: what it takes; one image is enough.

    Returns:
        The network's residual blocks.

    Raises:
        ValueError: a name is no residual block that can go, or there are fewer than are to go.
    """
    blocks = find_blocks(model, example_inputs)
    where = f"scheme {scheme.name!r}"
    if not blocks.found:
        raise ValueError(
            f"{where}: model must have residual blocks that can go, got {_none(blocks)}"
        )
    for name in scheme.blocks or ():
        if name not in blocks.found:
            why = blocks.reasons.get(name, f"{name!r} is no module that holds layers")
            raise ValueError(
                f"{where}: blocks must be among {', '.join(blocks.found)}, got {shown(name)}: {why}"
            )
    if scheme.count is not None and scheme.count > len(blocks.found):
        raise ValueError(
            f"{where}: count must be at most {len(blocks.found)}, the blocks of the model that can "
            f"go, got {scheme.count}"
        )
    return blocks


def _none(blocks: Blocks) -> str:
    if not blocks.reasons:
        return "none: its layers are parts of one graph, or of one module, and no blocks of it"
    return f"none: {commonest(blocks.reasons)}"


def without_blocks(model: nn.Module, scheme: DropBlocks, example_inputs: Inputs) -> None:
    """Drop the blocks that a scheme names, in place.

    Args:
        model: the network, in plain modules.
        scheme: with names.
        example_inputs: what it takes; one image is enough.

    Raises:
        ValueError: it does not fit the network.
    """
    found = check_blocks(scheme, model, example_inputs).found
    rests: dict[str, Rest] = {name: found[name] for name in scheme.blocks or ()}
    drop_blocks(model, rests)
