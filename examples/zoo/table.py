"""The page of a folder of runs: a table of what came out, and one of how."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_HEAD = """\
# Several networks, two sizes each

Written by `make zoo` ([run.py](run.py)): each network without labels to 70 and to 50 % of its
multiply-accumulates; from 10 images a class of CIFAR-10 by the default method, from 500 photographs
by `seconds`, the default without its steps of all layers, for EfficientNet-Lite0. One draw each,
one thread. A run leaves a JSON file here, and is left out where that is there.

```sh
{commands}
```

"""
_NOTHING = "Nothing has been run yet.\n"
_NOTE = """\
Accuracy: of so many test images. FLOPs: multiply-accumulates. ms: time of the student over that of
the teacher, measured in turns, BatchNorm as the method leaves it, for 1 image and for 64 at once.
Seconds: to compress.

"""
_FIGURES = ("run", "method", "test images", "teacher %", "student %", "parameters", "FLOPs",
            "ms, 1 image", "ms, 64", "seconds")  # fmt: skip
_RUNS = ("run", "date", "processor", "versions", "command")


def page(commands: Sequence[str], records: Sequence[dict[str, Any]]) -> str:
    """The page.

    Args:
        commands: all that `run.py` runs.
        records: what its runs left, as their files hold it.
    """
    head = _HEAD.format(commands="\n".join(f"FSC_DATA=... {each}" for each in commands))
    if not records:
        return head + _NOTHING
    figures = _rows(_FIGURES, [_figures(r, run) for r in records for run in r["runs"]])
    return f"{head}{figures}\n{_NOTE}{_rows(_RUNS, [_made(record) for record in records])}"


def _figures(record: dict[str, Any], run: dict[str, Any]) -> list[str]:
    own, teachers = run["milliseconds"], run["milliseconds_teacher"]
    return [
        record["name"],
        f"`{run['method']}`",
        f"{record['test_images']:,}",
        f"{record['top1_teacher']:.2f}",
        f"{run['top1']:.2f}",
        _left(run["parameters"], record["parameters_teacher"]),
        _left(run["flops"], record["flops_teacher"]),
        *(f"{mine / whole:.2f}" for mine, whole in zip(own, teachers, strict=True)),
        f"{run['seconds']:.0f}",
    ]


def _left(number: int, whole: int) -> str:
    return f"{number / 1e6:,.2f} M ({100 * number / whole:.0f} %)"


def _made(record: dict[str, Any]) -> list[str]:
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in ("fsc", "torch"))
    return [record["name"], record["date"], record["processor"], versions, f"`{record['command']}`"]


def _rows(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
