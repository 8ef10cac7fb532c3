"""The file of a comparison: complete after every run, so that it can be taken up again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fsc.cli.record import Record, brief, is_of
from fsc.cli.run import Accuracy
from fsc.files import read_json, write_json

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
    "device": "--device",
    "threads": "--threads",
}
_NO_COMPARISON = "comparison file {} is none of fsc compare, fsc sweep and fsc tradeoff"
TARGETS = "targets"  # what `fsc tradeoff` goes over


class Comparison:
    """The runs of one comparison, written to a file after each of them.

    Args:
        identity: what two comparisons must share for their runs to stand in one table, as JSON.
        path: the file, or None to keep the runs in memory only.
    """

    def __init__(self, identity: dict[str, Any], path: Path | None) -> None:
        """Begins an empty comparison; the file appears with the first run."""
        self.identity = identity
        self.path = path
        self.teacher: Accuracy | None = None
        self.records: list[Record] = []

    def resume(self) -> None:
        """Take up the runs that the file holds already; without a file there is nothing to do.

        Raises:
            ValueError: the file is damaged or holds another comparison.
        """
        if self.path is None or not self.path.exists():
            return
        content, records = _read(self.path)
        # What is swept first: other values follow from it.
        for key, value in sorted(self.identity.items(), key=lambda item: item[0] != "over"):
            if content.get(key) != value:
                raise ValueError(_refusal(self.path, key, content.get(key), value))
        if content.get("top1_teacher") is not None:
            self.teacher = Accuracy(content["top1_teacher"], content.get("top5_teacher"))
        self.records = records

    def find(
        self, method: str, seed: int, value: float | None = None, target: str | None = None
    ) -> Record | None:
        """Return the run of a method with a seed, a value of a sweep, a target, if it is there."""
        for record in self.of(method):
            if (record.seed, record.value, record.target) == (seed, value, target):
                return record
        return None

    def of(self, method: str, seeds: Iterable[int] | None = None) -> list[Record]:
        """Return the runs of a method, with the given seeds only where they are given."""
        wanted = None if seeds is None else set(seeds)
        return [
            record
            for record in self.records
            if record.method == method and (wanted is None or record.seed in wanted)
        ]

    def add(self, record: Record) -> None:
        """Add a run and write the file.

        Raises:
            OSError: the file cannot be written.
        """
        self.records.append(record)
        if self.path is not None:
            runs = [each.to_dict() for each in self.records]
            measured = {} if self.teacher is None else self.teacher.to_dict("_teacher")
            write_json(self.path, self.identity | measured | {"runs": runs})


def _read(path: Path) -> tuple[dict[str, Any], list[Record]]:
    content = read_json(path, "comparison file")
    runs = content.get("runs") if isinstance(content, dict) else None
    if not isinstance(runs, list):
        raise ValueError(f"{_NO_COMPARISON.format(path)}: it has no list of runs")
    for key in ("top1_teacher", "top5_teacher"):
        if not is_of(content.get(key), float | None):
            raise ValueError(f"{_NO_COMPARISON.format(path)}: its {key} is {brief(content[key])}")
    records = []
    for index, run in enumerate(runs):
        try:
            records.append(Record.from_dict(run))
        except ValueError as error:
            raise ValueError(f"{_NO_COMPARISON.format(path)}: run {index} {error}") from error
    return content, records


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
    was, got = ("none" if each is None else str(each) for each in (before, now))
    return f"{flag} must be that of the runs in {path}, {was}, got {got}; {ways}"


def _verb(over: object) -> str:
    """Whose runs they are that go over so much."""
    return {None: "compare", TARGETS: "tradeoff"}.get(over, "sweep")  # type: ignore[call-overload]
