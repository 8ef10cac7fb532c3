"""What a part of the campaign is: many cases, each a number that says all about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


class Fault(Exception):
    """What came out is wrong; the sentence says how."""


@dataclass(frozen=True)
class Part:
    """Cases of one kind.

    Args:
        count: cases of a whole campaign.
        case: of a number, in an empty folder of its own: what came out, in a word or two, such as
            "equal" or "refused"; the same for the same number. Raises `Fault`, or anything else,
            which is a fault too.
        limit: seconds of a case; what takes longer has hung.
        hours: of all cases together; those that are left are not run, and the page says so.
    """

    count: int
    case: Callable[[int, Path], str]
    limit: float = 60
    hours: float = 1
