"""Hooks of layers that do more than watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from torch import nn


def changing(network: nn.Module, names: Iterable[str], is_same: Callable[[], bool]) -> str | None:
    """The first of some modules whose forward hooks change what it reads or gives.

    Args:
        network: a copy, which loses hooks.
        names: of its modules.
        is_same: runs the network and says whether it gives what it gave before.
    """
    hooked = {name: _hooks(network.get_submodule(name)) for name in names}
    hooked = {name: own for name, own in hooked.items() if any(own)}
    if not hooked or not is_same():  # one that gives something else each time
        return None
    kept = {name: [dict(hooks) for hooks in own] for name, own in hooked.items()}
    _clear(hooks for own in hooked.values() for hooks in own)
    if is_same():
        return None
    for name, own in hooked.items():
        for hooks, before in zip(own, kept[name], strict=True):
            hooks.update(before)
    for name, own in hooked.items():
        _clear(own)
        if not is_same():
            return name
    return None


def _hooks(module: nn.Module) -> list[dict]:
    return [module._forward_hooks, module._forward_pre_hooks]


def _clear(several: Iterable[dict]) -> None:
    for hooks in several:
        hooks.clear()
