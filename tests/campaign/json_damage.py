"""JSON that is JSON still and says something else."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

from damage import Mutation

_DEEP = 3000


def _nested(depth: int) -> Any:
    found: Any = 0
    for _ in range(depth):
        found = [found]
    return found


def odd_value(draw: Random) -> Any:
    """A value that nobody expects."""
    return draw.choice([
        None, True, False, -1, 0, 1, 2, 0.5, -0.5, 1e-320, float("nan"), float("inf"), 2**31, 2**63,
        10**400, -(10**30), "", "a", "1", "\ud800", "../../up", "/absolute", "a/b", "a\nb", "\x00",
        "x" * 300, [], {}, [[]], [None], {"": 0}, {"a": None}, [1e400], _nested(90),
        {"conv1": 4}, ["conv1"], "conv1",
    ])  # fmt: skip


def places(content: Any) -> list[tuple[Any, Any]]:
    """Every place of a value in a nest of lists and objects: what holds it, and under which key."""
    found = []
    if isinstance(content, dict | list):
        keys = content if isinstance(content, dict) else range(len(content))
        for key in keys:
            found += [(content, key), *places(content[key])]
    return found


def changed(content: Any, draw: Random) -> Any:
    """The same content with one to three values, keys or entries that are wrong."""
    content = json.loads(json.dumps(content))
    for _ in range(draw.randint(1, 3)):
        found = places(content)
        if not found or draw.random() < 0.05:
            return odd_value(draw)
        holder, key = draw.choice(found)
        way = draw.randrange(6)
        if way == 0:
            del holder[key]
        elif way == 1 and isinstance(holder, dict):
            holder[draw.choice(["extra", "../up", "a/b", "", "\ud800", "__class__"])] = holder[key]
        elif way == 2:
            other, place = draw.choice(found)
            holder[key] = json.loads(json.dumps(other[place]))
        elif way == 3 and type(holder[key]) in (int, float):
            holder[key] = draw.choice([-holder[key], holder[key] + 1, str(holder[key]), 1e300])
        else:
            holder[key] = odd_value(draw)
    return content


def other_values(path: Path, draw: Random) -> None:
    path.write_text(json.dumps(changed(json.loads(path.read_text()), draw)))


def other_text(path: Path, draw: Random) -> None:
    """What only the text can say: keys twice, nesting without end, letters that are none."""
    text = path.read_text()
    first = text.find(":")
    ways = [
        text.replace("{", '{"name": "twice", "name": 3, ', 1),
        text[: first + 1] + "[" * _DEEP + "]" * _DEEP + ", " + text[first + 1 :],
        text[: first + 1] + '{"a":' * 100_000 + text[first + 1 :],
        text + text, f"\ufeff{text}", text.replace('"', "'"), text.replace("}", ",}"),
        text.replace("1", "1" * 90), text.replace("0", "NaN"), text.replace("0", "1e999"),
    ]  # fmt: skip
    content = draw.choice(ways).encode()
    path.write_bytes(content if draw.random() < 0.8 else content.replace(b'"', b'"\xff', 3))


ANY: tuple[Mutation, ...] = (other_values, other_values, other_values, other_values, other_text)
