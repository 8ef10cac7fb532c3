"""A disk that is full for some files."""

import errno
from pathlib import Path
from typing import Any

import pytest


def fill_disk(monkeypatch: pytest.MonkeyPatch, stem: str) -> None:
    """Nothing is written to files that have a stem in their names, be they temporary ones."""

    def full(real: Any) -> Any:
        def write(path: Path, *arguments: Any, **keywords: Any) -> Any:
            if stem in path.name:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(path, *arguments, **keywords)

        return write

    for writer in ("write_text", "write_bytes"):
        monkeypatch.setattr(Path, writer, full(getattr(Path, writer)))
