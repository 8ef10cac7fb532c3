"""Damaged and hostile files: each is read rightly or refused in a sentence, and costs nothing.

A case writes a good file of one kind, changes it once and reads it as a user would. Nothing that
the file holds is run, nothing is written but what the call is to write, and at most 200 MB beyond
the size of the files are taken. The peak is that of resident memory, which Linux tells.
"""

from __future__ import annotations

import functools
import tempfile
import warnings
from pathlib import Path
from random import Random
from typing import Any

import commands
import guarded
import readers
from damage import ANY, MARKER, Mutation
from part import Fault, Part
from readers import Kind
from tensor_damage import FORGED

_KINDS = (*readers.KINDS, *commands.KINDS)
# A command takes a hundred times as long as a function.
_WEIGHTS = [*(3,) * len(readers.KINDS), *(1,) * len(commands.KINDS)]


def case(number: int, folder: Path) -> str:
    """Damages one file and reads it."""
    draw = Random(number)
    (kind,) = draw.choices(_KINDS, _WEIGHTS)
    mutation = draw.choice(draw.choice([ANY, kind.mutations]))
    return f"{kind.name}: {tried(kind, mutation, folder, draw)}"


def tried(kind: Kind, mutation: Mutation, folder: Path, draw: Random) -> str:
    """What comes out of one kind of file under one kind of damage."""
    good = _good(kind)
    pattern = kind.write(folder)
    path = draw.choice(sorted(each for each in folder.glob(pattern) if each.is_file()))
    _damage(mutation, path, draw)
    size = sum(each.stat().st_size for each in folder.rglob("*") if each.is_file())
    output = None if kind.writes is None else folder / kind.writes
    above = path.relative_to(folder).parents
    names = (kind.name, path.name, *(each.name for each in above if each.name))
    try:
        with guarded.nothing_touched(folder, output), guarded.memory_below(size + guarded.SPARE):
            found, refused = _read(kind, folder)
    except Fault as fault:
        raise Fault(f"{kind.name}, {mutation.__name__}: {fault}") from fault
    except Exception as error:
        said = f"{type(error).__name__}: {str(error)[:300]}"
        raise Fault(f"{kind.name}, {mutation.__name__}: {said}") from error
    if any(folder.rglob(MARKER)):
        raise Fault(f"{kind.name}, {mutation.__name__}: ran code")
    try:
        is_sure = kind.is_sure and mutation not in FORGED
        return _judged(found, refused, good, names, is_sure)
    except Fault as fault:
        raise Fault(f"{kind.name}, {mutation.__name__}: {fault}") from fault


def _judged(found: Any, refused: str, good: Any, names: tuple[str, ...], is_sure: bool) -> str:
    if refused:
        guarded.check_sentence(refused, names)
        return "refused"
    if repr(found) == repr(good):
        return "equal"
    if is_sure:
        raise Fault("gave something else in silence")
    return "read otherwise"


def _damage(mutation: Mutation, path: Path, draw: Random) -> None:
    """Changes a file; a way that does not go with it becomes bits that flip."""
    before = path.read_bytes()
    try:
        mutation(path, draw)
    except Exception:  # what a mutation cannot take apart is of another kind than its own
        path.write_bytes(before)
        ANY[1](path, draw)


def _read(kind: Kind, folder: Path) -> tuple[Any, str]:
    """What is read, or the sentence that refuses it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return kind.read(folder), ""
        except (ValueError, OSError) as error:
            if isinstance(error, UnicodeError):
                raise
            return None, str(error) or "nothing"


@functools.cache
def _good(kind: Kind) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        kind.write(Path(folder))
        found, refused = _read(kind, Path(folder))
    if refused:
        raise Fault(f"{kind.name}: the good file is refused: {refused}")
    return found


PART = Part(count=1000, case=case)
