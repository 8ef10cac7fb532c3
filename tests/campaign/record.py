"""What came out of a part's cases, a line of JSON each, in a file that grows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path


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
    """The last finding of every case, by their numbers, without a line cut short by a kill."""
    last = {finding.number: finding for finding in _lines(path)}
    return [last[number] for number in sorted(last)]


def append(path: Path, finding: Finding) -> None:
    """Adds one, behind a line cut short by a kill on a line of its own."""
    cut_short = path.exists() and not path.read_bytes().endswith(b"\n")
    with path.open("a") as file:
        file.write("\n" * cut_short + json.dumps(asdict(finding)) + "\n")


def _lines(path: Path) -> Iterator[Finding]:
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            yield Finding(**json.loads(line))
        except ValueError:
            continue
