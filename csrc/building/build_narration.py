"""What compilers print while a build runs, in words: `[2/10] csrc/cpu/fold.cpp`."""

from __future__ import annotations

import os
import re
import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SILENCE = 10.0  # seconds after which a word says that the build goes on
_COMPILED = re.compile(rb"\s-c (?:\S*/)?(csrc/\S+)")
_COMMAND = re.compile(rb"^(\[\d+/\d+\] )?\S*(\+\+|cc|gcc|clang|nvcc|ninja)\S* .*-")


@contextmanager
def narrated(count: int) -> Iterator[None]:
    """Shorten every command on standard output to the file that it compiles, of `count`.

    The compilers are children of children, so the descriptor is what they share. What is no
    command, such as an error, passes unchanged.
    """
    sys.stdout.flush()
    reading, writing = os.pipe()
    kept = os.dup(1)
    os.dup2(writing, 1)
    os.close(writing)
    thread = threading.Thread(target=_narrate, args=(reading, kept, count))
    thread.start()
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)  # closes the pipe's last end, which ends the thread
        thread.join()
        os.close(kept)
        os.close(reading)


def _narrate(reading: int, output: int, count: int) -> None:
    start, done, rest = time.monotonic(), 0, b""
    while True:
        if not select.select([reading], [], [], SILENCE)[0]:
            seconds = time.monotonic() - start
            os.write(output, b"fsc_ext: %d of %d files, %d s\n" % (done, count, seconds))
            continue
        chunk = os.read(reading, 65536)
        if not chunk:
            break
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if compiled := _COMPILED.search(line):
                done += 1
                line = b"[%d/%d] %s" % (done, count, compiled[1])
            elif _COMMAND.match(line):
                line = b"fsc_ext: " + (b"linking" if b"-shared" in line else b"compiling")
            os.write(output, line + b"\n")
    os.write(output, rest)
