"""One run of a comparison, and how a file holds it."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from fsc.cli.run import Accuracy

_LARGEST = 1e18  # of the numbers in a file; NaN is not below it either
# Of what is measured and counted, the smallest and the largest that there can be.
_RANGES = {
    "shots": (1, None),
    "seed": (0, None),
    "top1": (0, 100),
    "top5": (0, 100),
    "seconds": (0, None),
    "parameters": (1, None),
    "nonzero": (0, None),
    "flops": (1, None),
}
# Of one image and of a batch.
_PAIRS = ("milliseconds", "milliseconds_teacher", "shares_of_time")


@dataclass(frozen=True)
class Record:
    """One run: accuracies in percent, seconds of compression, size of the student.

    Milliseconds are those of the student and of the teacher for one image and for a batch, of what
    `torch.compile` makes of them where the file says so, as
    `timing.Times` has them, where they were measured, with their shares. Where targets are
    several a run has its own, as it was typed, in a sweep its value; with it the learning rate that
    the student was trained at, whether that was halved because the training had diverged, and
    whether the student is worth nothing all the same.
    """

    method: str
    scheme: str
    shots: int | None
    seed: int
    top1: float
    seconds: float
    parameters: int
    nonzero: int
    flops: int
    top5: float | None = None
    milliseconds: list[float] | None = None
    milliseconds_teacher: list[float] | None = None
    shares_of_time: list[list[float]] | None = None
    value: float | None = None
    target: str | None = None
    learning_rate: float | None = None
    halved: bool | None = None
    ruined: bool | None = None

    @classmethod
    def from_dict(cls, run: object) -> Record:
        """The run that a file holds.

        Raises:
            ValueError: it is none; says what it lacks or what of it is wrong.
        """
        if not isinstance(run, dict):
            raise ValueError(f"is {brief(run)}")
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in run]
        if missing:
            raise ValueError(f"lacks {missing[0]}")
        hints = get_type_hints(cls)
        found: dict[str, Any] = {name: run.get(name) for name in hints}
        for name, value in found.items():
            if not is_of(value, hints[name]):
                raise ValueError(f"has {brief(value)} as its {name}")
            if rule := unmet_rule(name, value):
                raise ValueError(f"has {brief(value)} as its {name}, which {rule}")
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """What the file holds of it; what only some runs have, only where it is there."""
        always = {field.name for field in fields(self) if field.default is MISSING}
        return {k: v for k, v in asdict(self).items() if v is not None or k in always}

    def share_of_time(self, index: int) -> float:
        """Milliseconds over the teacher's, for one image (0) or for a batch (1)."""
        assert self.milliseconds is not None and self.milliseconds_teacher is not None
        return self.milliseconds[index] / self.milliseconds_teacher[index]

    @property
    def key(self) -> tuple[str, int, float | None, str | None]:
        """What no two runs of a file share."""
        return self.method, self.seed, self.value, self.target

    @property
    def accuracy(self) -> Accuracy:
        """What was measured of the student."""
        return Accuracy(self.top1, self.top5)


def is_of(value: object, hint: Any) -> bool:
    """Whether a value of JSON is what a field is declared as; whole numbers are floats, too."""
    if get_origin(hint) is UnionType:
        return any(is_of(value, each) for each in get_args(hint))
    if get_origin(hint) is list:
        return isinstance(value, list) and all(is_of(each, *get_args(hint)) for each in value)
    if hint in (int, float):
        return type(value) in {int, hint} and abs(value) < _LARGEST  # type: ignore[arg-type]
    return isinstance(value, hint)


def unmet_rule(name: str, value: Any) -> str | None:
    """What a value, of the type of its field, must be and is not; None where it is well.

    Args:
        name: of the field.
        value: of it; None where it is not there, which is well.
    """
    low, high = _RANGES.get(name, (None, None))
    if value is None:
        return None
    if low is not None and high is not None:
        return None if low <= value <= high else f"must lie between {low} and {high}"
    if low is not None:
        return None if low <= value else f"must be at least {low}"
    if name in _PAIRS and not (len(value) == 2 and all(map(_is_time, value))):
        return "must be two positive times"
    return None


def _is_time(value: float | list[float]) -> bool:
    """Whether it is above nothing, or from a lowest such to a highest."""
    if isinstance(value, list):
        return len(value) == 2 and 0 < value[0] <= value[1]
    return value > 0


def brief(value: object) -> str:
    """A value of JSON, cut where it is long."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
