"""What came out of a part's cases, a line of JSON each, in a file that grows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click


@dataclass(frozen=True)
class Finding:
    """What came out of one case.

    Args:
        number: the case.
        outcome: in a word or two; "" where there is a fault.
        fault: a sentence; "" where there is none.
        seconds: it took.
    """

    number: int
    outcome: str
    fault: str
    seconds: float


def read(path: Path) -> list[Finding]:
    """The last finding of every case, by their numbers, without a line cut short by a kill.

    Raises:
        ClickException: a line is whole and holds something else.
    """
    last = {finding.number: finding for finding in _lines(path)}
    return [last[number] for number in sorted(last)]


def append(path: Path, finding: Finding) -> None:
    """Adds one, behind a line cut short by a kill on a line of its own."""
    cut_short = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * cut_short + json.dumps(asdict(finding)) + "\n")


def _lines(path: Path) -> Iterator[Finding]:
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else [], 1):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if not _is_finding(found):
            raise click.ClickException(f"{path} must hold a finding a line, got {line} as {number}")
        yield Finding(**found)


def _is_finding(found: object) -> bool:
    kinds = {"number": int, "outcome": str, "fault": str, "seconds": int | float}
    return (
        isinstance(found, dict)
        and found.keys() == kinds.keys()
        and all(isinstance(found[key], kind) for key, kind in kinds.items())
        and min(found["number"], found["seconds"]) >= 0
    )
