"""Putting a module in the place of another one."""

from __future__ import annotations

from torch import nn


def put(network: nn.Module, name: str, made: nn.Module) -> None:
    """Put a module in the place of the one of that name, under every name that it has, in place.

    A network may hold a module as an attribute and in a Sequential too, and call it by either.

    Args:
        network: any module but the one that is replaced.
        name: one of its names there.
        made: what takes its place; it may hold the old one.

    Raises:
        AttributeError: the network has no such module.
    """
    old = network.get_submodule(name)
    places = network.named_modules(remove_duplicate=False)
    for place in [place for place, module in places if module is old]:
        network.set_submodule(place, made)
