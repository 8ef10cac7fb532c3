"""What a user may tell a page beyond its report, and whether it can be shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fsc.arguments import as_channel_numbers, as_count, as_number, check_text
from fsc.networks.latency import BATCH
from fsc.wording import shown

_TEXTS = ("model", "data", "method_in_words")
_COUNTS = ("test_images", "shots", "ways")
_PERCENT = ("top1", "top5")
# Milliseconds -> what they are for.
TIMES = {
    "milliseconds": "one image",
    "milliseconds_batch": f"{BATCH} images at once",
    "milliseconds_compiled": "one image when compiled",
    "milliseconds_batch_compiled": f"{BATCH} images at once when compiled",
}
# Of the student; each is compared with the teacher's.
_COMPARED = (*_PERCENT, "kilobytes", *TIMES)
_NAMES = (*_TEXTS, *_COUNTS, *_COMPARED, *(f"{name}_teacher" for name in _COMPARED), "notes")


def told_of(held: Mapping[str, Any], known: Mapping[str, Any] | None) -> dict[str, Any]:
    """A report with what else is known; what is None is not known.

    Args:
        held: the report.
        known: as for `fsc.report.page`.

    Raises:
        ValueError: a name that no page shows, a number that makes no sense, or one of the student
            without the teacher's.
        TypeError: a value is of the wrong type.
    """
    if not isinstance(known, Mapping | None):
        raise TypeError(
            f"page: known must be a dict by the names of report.json, got {shown(known)}"
        )
    given = {name: value for name, value in (known or {}).items() if value is not None}
    told = {"model": None, **held, **given}
    for name, value in given.items():
        if name not in _NAMES:
            raise ValueError(
                f"page: known must hold none but {', '.join(_NAMES)}, got {shown(name)}"
            )
        told[name] = _checked(name, value)
        own = name.removesuffix("_teacher")
        other = own if own != name else f"{own}_teacher"
        if own in _COMPARED and told.get(other) is None:
            raise ValueError(f"page: known must hold {other} beside {name}, got {name} alone")
    return told


def check_statistics(mean: object, std: object) -> None:
    """Make sure that what images were normalised by are numbers.

    Raises:
        ValueError: a mean is not finite, or a deviation not above 0.
        TypeError: they are something else.
    """
    for name, values in (("mean", mean), ("std", std)):
        if values is None:
            continue
        least = -math.inf if name == "mean" else 0
        numbers = as_channel_numbers(f"page: {name}", values)
        if not all(least < number < math.inf for number in numbers):
            rule = "finite" if name == "mean" else "finite and above 0"
            raise ValueError(f"page: {name} must be {rule}, got {shown(list(numbers))}")


def _checked(name: str, value: Any) -> Any:
    what = f"page: {name} of known"
    if name in _TEXTS:
        return check_text(what, value)
    if name in _COUNTS:
        return as_count(what, value)
    if name == "notes":
        listed = isinstance(value, Sequence) and not isinstance(value, str)
        if not listed or not all(isinstance(each, str) for each in value):
            raise TypeError(f"{what} must be a list of sentences, got {shown(value)}")
        return value
    number = as_number(what, value)
    most = 100 if name.removesuffix("_teacher") in _PERCENT else math.inf
    if not 0 <= number <= most or math.isinf(number):
        rule = "from 0 to 100" if most == 100 else "finite and at least 0"
        raise ValueError(f"{what} must be {rule}, got {number}")
    return number
