"""Damage that any file may take, whatever is in it."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

MARKER = "code-was-run"

# Changes a file, or what stands in its place; draws what it needs.
Mutation = Callable[[Path, Random], None]


class Payload:
    """Unpickled in earnest it leaves a marker beside the file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.marker,)


def truncated(path: Path, draw: Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content) + 1)])


def flipped(path: Path, draw: Random) -> None:
    """Up to eight bits, half of the time among the first 512 bytes, where headers are."""
    content = bytearray(path.read_bytes())
    end = min(len(content), 512) if draw.random() < 0.5 else len(content)
    for _ in range(draw.randint(1, 8) if content else 0):
        content[draw.randrange(end)] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def overwritten(path: Path, draw: Random) -> None:
    """A stretch of other bytes, as from a block of another file."""
    content = bytearray(path.read_bytes())
    start, length = draw.randrange(len(content) + 1), draw.randint(1, 64)
    filled = draw.choice([bytes(length), b"\xff" * length, draw.randbytes(length)])
    path.write_bytes(content[:start] + filled + content[start + length :])


def shifted(path: Path, draw: Random) -> None:
    """Bytes too many or too few in the middle."""
    content = path.read_bytes()
    start, length = draw.randrange(len(content) + 1), draw.randint(1, 9)
    more = draw.random() < 0.5
    kept = content[start:] if more else content[start + length :]
    path.write_bytes(content[:start] + (draw.randbytes(length) if more else b"") + kept)


def prolonged(path: Path, draw: Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.choice([1, 8, 5000])))


def emptied(path: Path, draw: Random) -> None:
    path.write_bytes(b"")


def another(path: Path, draw: Random) -> None:
    """What is no such file at all."""
    contents = [
        b"<!DOCTYPE html><html>404</html>",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n",
        draw.randbytes(300), b"\xff\xfe{\x00}\x00", b"PK\x03\x04", b"PK\x05\x06" + bytes(18),
        b"\x80\x02.", b"\x93NUMPY\x01\x00\xff\xff", b"\x89PNG\r\n\x1a\n", b"\x7fELF",
        b"[" * 200_000, b"{" * 3, "[1]".encode("utf-16"), b"\xef\xbb\xbf{}",
        b"null", b'"a\xffb"',
    ]  # fmt: skip
    path.write_bytes(draw.choice(contents))


def code(path: Path, draw: Random) -> None:
    """A pickle that would run code."""
    payload = Payload(path.parent / MARKER)
    content = draw.choice([payload, {"state_dict": payload}, [payload], {payload: 1}])
    path.write_bytes(pickle.dumps(content, protocol=draw.randint(0, 5)))


def folder_instead(path: Path, draw: Random) -> None:
    path.unlink()
    path.mkdir()
    if draw.random() < 0.5:
        (path / path.name).touch()


def link_instead(path: Path, draw: Random) -> None:
    """A link: to the file elsewhere, which does no harm, to nothing, itself or endless zeros."""
    moved = path.parent / f"moved-{path.name}"
    target = draw.choice([moved, path.parent / "missing", path, Path("/dev/zero"), path.parent])
    if target == moved:
        shutil.move(path, moved)
    else:
        path.unlink()
    path.symlink_to(target)


def pipe_instead(path: Path, draw: Random) -> None:
    """A pipe that nobody writes to: who opens it waits for ever."""
    path.unlink()
    os.mkfifo(path)


def gone(path: Path, draw: Random) -> None:
    path.unlink()


ANY: tuple[Mutation, ...] = (
    *(truncated, flipped, flipped, overwritten, shifted, prolonged, emptied, another, code),
    *(folder_instead, link_instead, pipe_instead, gone),
)
