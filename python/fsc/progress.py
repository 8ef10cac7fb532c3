"""How long work tells what is done: to a function, or to whoever watches a line of their screen."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from fsc.wording import shown

# Called with (what is being done, how much is done, how much there is).
Progress = Callable[[str, int, int], None]
# Called with (names of numbers -> numbers, the step they are of), as trackers of experiments are.
Log = Callable[[dict[str, float], int], None]

_SECONDS_BETWEEN_LOOKS = 0.1


@contextmanager
def telling(progress: Progress | bool) -> Iterator[Progress | None]:
    """What work is to call, for what a user asks for.

    Args:
        progress: a function, which is called as it is; True: a line on stderr, rewritten in place
            and gone at the end, where that is a terminal or a notebook, and nothing where it goes
            to a file or a pipe; False: nothing.

    Raises:
        TypeError: it is none of these.

    Example:
        >>> with telling(False) as told:
        ...     told is None
        True
    """
    if not isinstance(progress, bool):
        if not callable(progress):
            raise TypeError(
                "progress must be True, False or a function of (what, done, total), got "
                f"{shown(progress)}"
            )
        yield progress
    elif progress and _is_watched(sys.stderr):
        line = _Line(sys.stderr)
        try:
            yield line
        finally:
            line.erase()
    else:
        yield None


def _is_watched(stream: TextIO | None) -> bool:
    """Whether a stream is a terminal, or what a notebook shows below its cell."""
    if type(stream).__module__.startswith("ipykernel."):
        return True
    try:
        return stream is not None and stream.isatty()
    except (AttributeError, ValueError):  # whatever else can be written to, or a closed one
        return False


class _Line:
    """One line that is written over and over."""

    def __init__(self, stream: TextIO) -> None:
        self._stream, self._start = stream, time.monotonic()
        self._last, self._width = 0.0, 0

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done >= total:
            # Whatever comes between two pieces of work, such as a warning, has a line of its own.
            self.erase()
        elif now - self._last >= _SECONDS_BETWEEN_LOOKS:
            minutes, seconds = divmod(int(now - self._start), 60)
            self._write(f"fsc: {what} {done} of {total}, {minutes}:{seconds:02}")
            self._last = now

    def erase(self) -> None:
        """Leave an empty line behind."""
        if self._width:
            self._write("")
            self._stream.write("\r")
            self._stream.flush()

    def _write(self, text: str) -> None:
        # A line that is broken cannot be gone back to.
        text = text[: shutil.get_terminal_size().columns - 1]
        # Spaces, because not every notebook knows the codes of terminals.
        self._stream.write(f"\r{text:<{self._width}}")
        self._stream.flush()
        self._width = len(text)
