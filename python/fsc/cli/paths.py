"""What every kind of parameter reads, so that nothing is written there."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

import click

from fsc import scheme_tables
from fsc.cli import typed
from fsc.images.names import DATA_SETS, FOLDER
from fsc.models import factories

# What lies in a student's folder beside the files of the student itself.
REPORTS = ("report.json", "samples.json")
# What is looked for in the folder of the data: images of known data sets, and teachers by name.
_DATA = re.compile(
    rf"({'|'.join(DATA_SETS)})_.*\.(npz|safetensors|pt|pth)|cifar-10-batches-py|cifar-100-python"
)


@singledispatch
def read_by(kind: click.ParamType, value: Any) -> tuple[Path, ...]:
    """The files and folders that are read because of what is typed.

    Args:
        kind: of the parameter. A new one is registered below, even where it reads nothing: what is
            not known to be read would be written to.
        value: of the parameter, as the kind converts it.

    Raises:
        TypeError: the kind is not registered.
    """
    raise TypeError(f"paths.read_by must know what {type(kind).__name__} reads")


@read_by.register(click.Choice)
@read_by.register(click.IntRange)
@read_by.register(click.FloatRange)
@read_by.register(type(click.BOOL))
@read_by.register(typed.Augment)
@read_by.register(typed.Size)
@read_by.register(typed.Normalization)
@read_by.register(typed.Values)
@read_by.register(typed.Text)
@read_by.register(typed.WrittenFile)
@read_by.register(typed.WrittenFolder)
def _(kind: click.ParamType, value: Any) -> tuple[Path, ...]:
    return ()


@read_by.register
def _(kind: typed.ReadFile, value: Path) -> tuple[Path, ...]:
    return (value,)


@read_by.register
def _(kind: typed.NetworkPath, value: Path) -> tuple[Path, ...]:
    if not value.is_dir():
        return (value,)
    from fsc.model_folder import FILES  # needs torch, and none is needed for a usage error

    # What is made of a student may well lie beside it.
    return tuple(value / name for name in (*FILES, *REPORTS))


@read_by.register
def _(kind: typed.SchemeName, value: str) -> tuple[Path, ...]:
    return () if value in scheme_tables.names() else (Path(value),)


@read_by.register
def _(kind: typed.ModelName, value: str) -> tuple[Path, ...]:
    factory = factories.parse(value)
    return (Path(factory.name),) if factory.kind == "file" else ()


@read_by.register
def _(kind: typed.DataName, value: str) -> tuple[Path, ...]:
    return (Path(value.removeprefix(FOLDER)),) if value.startswith(FOLDER) else ()


@read_by.register
def _(kind: typed.DataRoot, value: Path) -> tuple[Path, ...]:
    # Results may well lie in there, beside what is read.
    folders = (value, value / "checkpoints", *(value / name for name in DATA_SETS))
    return tuple(
        path for folder in folders for path in folder.glob("*") if _DATA.fullmatch(path.name)
    )


def check_own(option: str, path: Path, names: Sequence[str] = ()) -> None:
    """Make sure that what a parameter names is not read, and as a file not written by another.

    Args:
        option: that names it.
        path: a file or a folder that is to be written.
        names: of what is written in the folder; empty for a file.

    Raises:
        ValueError: another parameter names the path, something in it or a folder around it.
    """
    places = [path / name for name in names] or [path]
    found, taken = {}, path
    for flag, kind, value in _typed():
        clash = None if flag == option else _clash(places, kind, value, with_written=not names)
        if flag == option or clash is not None:
            found[flag], taken = str(value), clash or taken
    if len(found) > 1:
        flags, values = (" and ".join(each) for each in (found, found.values()))
        where = f": {taken} would be written" if names else ""
        raise ValueError(f"{flags} must name paths of their own, got {values}{where}")


def _clash(
    places: Sequence[Path], kind: click.ParamType, value: Any, *, with_written: bool
) -> Path | None:
    """The first of some places where a value reads, or writes if that counts, too."""
    is_written = with_written and isinstance(kind, (typed.WrittenFile, typed.WrittenFolder))
    reads = read_by(kind, value)
    for place in places:
        if any(_holds(place, each) or _holds(each, place) for each in reads):
            return place
        if is_written and _holds(place, value):
            return place
    return None


def _typed() -> Iterator[tuple[str, click.ParamType, Any]]:
    """The flag, kind and value of all that the running command was given, one value at a time."""
    context = click.get_current_context()
    for parameter in context.command.params:
        is_option = isinstance(parameter, click.Option)
        flag = parameter.opts[0] if is_option else parameter.human_readable_name
        value = context.params.get(parameter.name or "")
        if value is None and isinstance(parameter.type, typed.DataRoot):
            value = Path(os.environ["FSC_DATA"]) if os.environ.get("FSC_DATA") else None
        for each in (value or ()) if parameter.multiple else (value,):
            if each is not None:
                yield flag, parameter.type, each


def _holds(outer: Path, inner: Path) -> bool:
    """Whether a path is another one or a folder around it, as a name or as what that links to."""
    around = {place for each in _places(inner) for place in (each, *each.parents)}
    return not around.isdisjoint(_places(outer))


def _places(path: Path) -> set[Path]:
    # A link is replaced itself, not what it links to.
    return {path.resolve(), path.parent.resolve() / path.name}
