"""What the file of a comparison must hold, for the runs in it to be gone on with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fsc import method_names
from fsc.cli.record import Record, brief, is_of, unmet_rule
from fsc.cli.run import Accuracy
from fsc.files import read_json

# What runs of one table share -> the flag for it, where its value is what was typed.
_FLAGS = {
    "over": "--over",
    "model": "--model",
    "data": "--data",
    "shots": "--shots",
    "ways": "--ways",
    "images": "--images",
    "test_images": "--test-images",
    "mir_steps": "--mir-steps",
    "default_steps": "--mir-steps",
    "views": "--views",
    "precision": "--precision",
    "keep_batch_norm": "--keep-batch-norm",
    "augment": "--augment",
    "compiled": "--compiled",
    "device": "--device",
    "threads": "--threads",
}
# What is looked at first: other values follow from what is swept, and "default_steps" is what was
# typed where "mir_steps" may be a default.
_FIRST = ("over", "default_steps")
# What is none in files, and what is typed for it.
_DEFAULTS = {"precision": "float32"}
_KINDS = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}
TARGETS = "targets"  # what `fsc tradeoff` goes over


def read(path: Path, identity: dict[str, Any]) -> tuple[Accuracy | None, list[Record]]:
    """Read the accuracy of the teacher, where it is there, and all runs.

    Args:
        path: the file.
        identity: what its runs must share with those to come.

    Raises:
        ValueError: the file is damaged or holds another comparison, or a run is none of it.
    """
    content = read_json(path, "comparison file")
    try:
        teacher, records = _parsed(content)
        _check_kinds(content, identity)
    except ValueError as error:
        raise ValueError(
            f"comparison file {path} is none of fsc compare, fsc sweep and fsc tradeoff: {error}"
        ) from error
    for key in dict.fromkeys([*_FIRST, *identity]):
        if content.get(key) != identity.get(key):
            raise ValueError(_refusal(path, key, content.get(key), identity.get(key)))
    try:
        for index, record in enumerate(records):
            _check_belongs(index, record, identity)
        _check_single(records)
    except ValueError as error:
        raise ValueError(
            f"comparison file {path} must hold runs of one table, each once: {error}"
        ) from error
    return teacher, records


def _parsed(content: Any) -> tuple[Accuracy | None, list[Record]]:
    runs = content.get("runs") if isinstance(content, dict) else None
    if not isinstance(runs, list):
        raise ValueError("it has no list of runs")
    shares = [content.get("top1_teacher"), content.get("top5_teacher")]
    for name, share in zip(("top1", "top5"), shares, strict=True):
        if not is_of(share, float | None):
            raise ValueError(f"its {name}_teacher is {brief(share)}")
        if rule := unmet_rule(name, share):
            raise ValueError(f"its {name}_teacher {rule}, got {brief(share)}")
    records = []
    for index, run in enumerate(runs):
        try:
            records.append(Record.from_dict(run))
        except ValueError as error:
            raise ValueError(f"run {index} {error}") from error
    return None if shares[0] is None else Accuracy(*shares), records


def _check_kinds(content: dict[str, Any], identity: dict[str, Any]) -> None:
    """Refuses a text where a number belongs: in a sentence both look alike."""
    for key, now in identity.items():
        before = content.get(key)
        if before is None or now is None:
            continue
        kind, wanted = (_KINDS.get(type(each), "a number") for each in (before, now))
        if kind != wanted:
            raise ValueError(f"its {key} must be {wanted}, got {kind}, {brief(before)}")


def _check_belongs(index: int, record: Record, identity: dict[str, Any]) -> None:
    """Refuses a run of another method, scheme or draw than the file says of all."""
    over = identity.get("over")
    if record.method not in method_names.NAMES:
        raise ValueError(f"run {index} is by {brief(record.method)}, no method of fsc")
    needed = {
        "value": over not in (None, TARGETS),
        "target": over == TARGETS,
        "milliseconds": bool(identity.get("latency")),
        "milliseconds_teacher": bool(identity.get("latency")),
    }
    for key, is_needed in needed.items():
        found = getattr(record, key)
        if (found is not None) != is_needed:
            what = f"lacks {key}" if is_needed else f"has {brief(found)} as its {key}"
            raise ValueError(f"run {index} {what}, unlike those of fsc {_verb(over)}")
    shared = {"shots": record.value if over == "shots" else identity.get("shots")}
    # Every target has a scheme of its own.
    shared |= {} if over == TARGETS else {"scheme": identity.get("scheme")}
    for key, wanted in shared.items():
        if getattr(record, key) != wanted:
            raise ValueError(
                f"run {index} has {brief(getattr(record, key))} as its {key}, not {brief(wanted)}"
            )


def _check_single(records: Sequence[Record]) -> None:
    """Refuses a run that is there twice: it would count twice in every mean."""
    known: dict[tuple[Any, ...], int] = {}
    for index, record in enumerate(records):
        earlier = known.setdefault(record.key, index)
        if earlier != index:
            raise ValueError(
                f"run {index} is of {record.method} with seed {record.seed} as run {earlier} is"
            )


def _refusal(path: Path, key: str, before: object, now: object) -> str:
    """Why runs of a file cannot stand beside those that are asked for, and both ways out."""
    ways = "name another file, or give --overwrite instead of --resume"
    if key == "over" and _verb(before) != _verb(now):
        mine, other = _verb(now), _verb(before)
        return f"--resume must go on with runs of fsc {mine}, got {path} of fsc {other}; {ways}"
    flag = _FLAGS.get(key)
    if flag is None:
        return (
            f"{path} holds another comparison: its {key} is {brief(before)}, not {brief(now)}; "
            f"{ways}"
        )
    was, got = (_as_typed(key, each) for each in (before, now))
    return f"{flag} must be that of the runs in {path}, {was}, got {got}; {ways}"


def _as_typed(key: str, value: object) -> str:
    if value is None:
        return _DEFAULTS.get(key, "none")
    return "given" if value is True else str(value)


def _verb(over: object) -> str:
    """Whose runs they are that go over so much."""
    if over is None:
        return "compare"
    return "tradeoff" if over == TARGETS else "sweep"
