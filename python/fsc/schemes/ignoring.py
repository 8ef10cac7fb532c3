"""Which layers a user wants left alone, by name, pattern or type."""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase

from torch import nn

# The name of a layer or of what contains it, a pattern such as "head*", or a type of layer.
Ignored = Collection[str | type[nn.Module]]


def ignored_layers(function: str, ignored: Ignored, model: nn.Module) -> set[str]:
    """The names of all modules that are meant, with all that they contain.

    Args:
        function: who asks, for the sentence.
        ignored: names and patterns of modules, where * stands for any characters, and types.
        model: the network.

    Raises:
        TypeError: `ignored` is one string, or holds something else.
        ValueError: a name, pattern or type fits no module.
    """
    if isinstance(ignored, str | type):
        raise TypeError(
            f"{function}: ignored must be a list of names, patterns or types, got {ignored!r}"
        )
    modules = dict(model.named_modules())
    found: set[str] = set()
    for entry in ignored:
        if isinstance(entry, str):
            fitting = {name for name in modules if name and fnmatchcase(name, entry)}
        elif isinstance(entry, type) and issubclass(entry, nn.Module):
            fitting = {name for name, module in modules.items() if isinstance(module, entry)}
        else:
            raise TypeError(
                f"{function}: ignored must hold names, patterns or types of modules, got {entry!r}"
            )
        if not fitting:
            told = repr(entry) if isinstance(entry, str) else entry.__name__
            raise ValueError(f"{function}: ignored must fit modules of the model, got {told}")
        found |= fitting
    inside = (name for name in modules if any(name.startswith(f"{outer}.") for outer in found))
    return found.union(inside)
