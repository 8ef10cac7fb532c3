"""The file of a comparison: complete after every run, so that it can be taken up again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fsc.cli import comparison_file
from fsc.cli.record import Record
from fsc.cli.run import Accuracy
from fsc.files import write_json


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
            ValueError: what `comparison_file.read` raises.
        """
        if self.path is None or not self.path.exists():
            return
        self.teacher, self.records = comparison_file.read(self.path, self.identity)

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
