"""Trying what may fail without a word: what went wrong is told in one sentence afterwards."""

from __future__ import annotations

import logging
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# Of what exports networks; other loggers are those of the user.
_LOGGERS = ("torch", "onnxscript", "onnx_ir")


@contextmanager
def silence() -> Iterator[None]:
    """Drops what torch prints and logs: graphs that do not run, code that cannot be exported.

    It logs, and prints on stderr; nothing of it goes to stdout. What other threads say meanwhile
    is heard.
    """
    thread = threading.get_ident()
    _silence.begin(thread)
    try:
        yield
    finally:
        _silence.end(thread)


class _Silence:
    """The threads of which torch is not to be heard."""

    def __init__(self) -> None:
        self.threads: Counter[int] = Counter()
        self._lock = threading.Lock()
        self._handlers: list[logging.Handler] = []
        self._stream: _Heard | None = None

    def begin(self, thread: int) -> None:
        with self._lock:
            if not self.threads:
                self._handlers = list(_handlers())
                for handler in self._handlers:
                    handler.addFilter(self._is_heard)
                # Some of it is printed, so that no logger can be asked to leave it out.
                self._stream = sys.stderr = _Heard(sys.stderr, self.threads)  # type: ignore[assignment]
            self.threads[thread] += 1

    def end(self, thread: int) -> None:
        with self._lock:
            self.threads -= Counter({thread: 1})
            if self.threads:
                return
            for handler in self._handlers:
                handler.removeFilter(self._is_heard)
            # Whoever has put another stream there since puts back what it found.
            if self._stream is not None and sys.stderr is self._stream:
                sys.stderr = self._stream.stream

    def _is_heard(self, record: logging.LogRecord) -> bool:
        is_of_torch = record.name.partition(".")[0] in _LOGGERS
        is_error = record.levelno > logging.ERROR
        return is_error or not is_of_torch or record.thread not in self.threads


class _Heard:
    """A stream without what some threads write to it."""

    def __init__(self, stream: TextIO, threads: Counter[int]) -> None:
        self.stream, self._threads = stream, threads

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() in self._threads else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _handlers() -> Iterator[logging.Handler]:
    """Those that hear what is of torch, each once."""
    names = [name for name in logging.root.manager.loggerDict if name.startswith(_LOGGERS)]
    loggers = [logging.root, *map(logging.getLogger, names)]
    found = [handler for logger in loggers for handler in logger.handlers]
    yield from dict.fromkeys([*found, *filter(None, [logging.lastResort])])


_silence = _Silence()
