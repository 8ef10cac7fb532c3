"""A folder for files that nobody needs once its process has ended, however that was."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # not a POSIX system: what is killed leaves its folder
    fcntl = None  # type: ignore[assignment]

# Another one than before there were locks: such a folder may belong to a process that lives.
_PREFIX = "fsc-activations-"
# Seconds: in a younger folder the lock may not be there yet.
_YOUNG = 60


class PassingFolder:
    """A temporary folder that is locked while its process lives.

    The system lets go of the lock whatever ends the process, so that the next one finds folders
    that were left behind, and removes them.
    """

    def __init__(self) -> None:
        """Make it.

        Raises:
            OSError: it cannot be made.
        """
        _remove_left()
        self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self._lock = _locked(self.path)

    def close(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _locked(folder: Path) -> int | None:
    """A descriptor that holds a folder for this process; none where another has it, or no lock."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_left() -> None:
    """Remove the folders of processes that have ended without doing so."""
    with suppress(OSError):
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
            with suppress(OSError):
                is_old = time.time() - folder.stat().st_mtime > _YOUNG
                if not is_old or (lock := _locked(folder)) is None:
                    continue
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
