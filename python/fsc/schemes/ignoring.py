"""Which layers a user wants left alone, by name, pattern or type."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from torch import nn

from fsc.wording import shown

# The name of a layer or of what contains it, a pattern such as "head*", or a type of layer.
Ignored = Collection[str | type[nn.Module]]


def in_words(ignored: Ignored) -> str:
    """What is ignored as a sentence names it: types by their names."""
    return ", ".join(each if isinstance(each, str) else each.__name__ for each in ignored)


def ignored_layers(
    function: str, ignored: Ignored, model: nn.Module, rewritten: nn.Module | None = None
) -> set[str]:
    """The names of all modules that are meant, with all that they contain.

    Args:
        function: who asks, for the sentence.
        ignored: names and patterns of modules, where * stands for any characters, and types.
        model: the network as the user has it, whose types count.
        rewritten: the same in plain modules, which reports name; None: it needs none.

    Raises:
        TypeError: `ignored` is one string, or holds something else.
        ValueError: a name, pattern or type fits no module.
    """
    check_list_of_ignored(function, ignored)
    modules = dict(model.named_modules())
    names = {*modules, *(() if rewritten is None else dict(rewritten.named_modules()))} - {""}
    found: set[str] = set()
    for entry in ignored:
        if isinstance(entry, str):
            fitting = {name for name in names if fnmatchcase(name, entry)}
        elif isinstance(entry, type) and issubclass(entry, nn.Module):
            fitting = {name for name, module in modules.items() if isinstance(module, entry)}
        else:
            raise TypeError(
                f"{function}: ignored must hold names, patterns or types of modules, "
                f"got {shown(entry)}"
            )
        if not fitting:
            raise ValueError(
                f"{function}: ignored must fit modules of the model, got {_unfit(entry, modules)}"
            )
        found |= fitting
    inside = (name for name in names if any(name.startswith(f"{outer}.") for outer in found))
    return found.union(inside)


def check_list_of_ignored(function: str, ignored: object) -> None:
    """Make sure that what is ignored is a list, not one of what it should hold.

    Raises:
        TypeError: it is not.
    """
    if isinstance(ignored, str) or not isinstance(ignored, Collection):
        raise TypeError(
            f"{function}: ignored must be a list of names, patterns or types, got {shown(ignored)}"
        )


def _unfit(entry: str | type[nn.Module], modules: Mapping[str, nn.Module]) -> str:
    if not isinstance(entry, str):
        return entry.__name__
    is_type = any(type(module).__name__ == entry for module in modules.values())
    return repr(entry) + ("; a type is given as the class itself" if is_type else "")
