"""Images and arrays of images that are not what they say, or too much of it."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from damage import MARKER, Mutation, Payload
from PIL import Image


def png(width: int, height: int, data: bytes = b"", kind: bytes = b"\x08\x02") -> bytes:
    """A PNG of two colours or more whose head is right, whatever follows."""

    def chunk(name: bytes, content: bytes) -> bytes:
        whole = name + content
        return struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">II", width, height) + kind + bytes(3)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def huge_picture(path: Path, draw: Random) -> None:
    """Ten gigapixels in the head; or 144 megapixels, all there, in a few kilobytes."""
    if draw.random() < 0.5:
        path.write_bytes(png(*draw.choice([(10**5, 10**5), (2**31 - 1, 1), (1, 10**9), (0, 5)])))
        return
    row = bytes(1 + 12_000 // 8)
    path.write_bytes(png(12_000, 12_000, zlib.compress(row * 12_000, 9), b"\x01\x00"))


def another_picture(path: Path, draw: Random) -> None:
    """A good picture of another kind, size or mode under the same name."""
    mode = draw.choice(["L", "RGB", "RGBA", "P", "1", "I;16", "LA", "CMYK"])
    size = (draw.choice([1, 2, 12, 300]), draw.choice([1, 10, 40]))
    kinds = {"CMYK": ["JPEG", "TIFF"], "L": ["JPEG", "PNG", "BMP"], "RGB": ["JPEG", "WEBP", "GIF"]}
    Image.new(mode, size).save(path, draw.choice(kinds.get(mode, ["PNG"])))


def text_bomb(path: Path, draw: Random) -> None:
    """A note in a PNG that unpacks to 300 megabytes."""
    content = b"note\0\0" + zlib.compress(bytes(300_000_000), 1)
    whole = b"zTXt" + content
    chunk = struct.pack(">I", len(content)) + whole + struct.pack(">I", zlib.crc32(whole))
    good = png(12, 10, zlib.compress((b"\0" + bytes(36)) * 10))
    path.write_bytes(good[:33] + chunk + good[33:])


PICTURES: tuple[Mutation, ...] = (
    huge_picture, huge_picture, another_picture, another_picture, another_picture, text_bomb,
)  # fmt: skip


# An archive of numpy's arrays.


def arrays_content(path: Path, draw: Random) -> None:
    """Arrays of another kind, shape or number."""
    with np.load(path) as content:
        arrays = dict(content)
    key = draw.choice(list(arrays))
    given = arrays[key]
    others: list[np.ndarray] = [given[:1], np.zeros(10), np.array("a"), np.array(["a", "b"])]
    if given.dtype.kind != "U":
        others += [given[:0], given.astype(np.float32), given[None], given.astype(object)]
        others += [np.full(given.shape, *how) for how in ((255, np.uint8), (2**63, np.uint64))]
    value = draw.choice(others)
    if draw.random() < 0.2:
        del arrays[key]
        arrays[draw.choice(["../up", "/absolute", "extra"])] = given
    else:
        arrays[key] = value
    if value.dtype == object:
        value.reshape(-1)[0] = Payload(path.parent / MARKER)
    np.savez(path, allow_pickle=True, **arrays)


def arrays_bomb(path: Path, draw: Random) -> None:
    """A header of 10^12 values without them; or a gigabyte of zeros, compressed."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    name, claim = draw.choice(list(members)), draw.random() < 0.5
    count = draw.choice([10**12, 10**18]) if claim else draw.choice([350_000, 200_000])
    shape = (count, 32, 32, 3) if "images" in name else (count,)
    if claim or "images" not in name:
        members[name] = _header(shape, "|u1" if "classes" not in name else "<U9")
        _zip(path, members, 0)
        return
    members[name] = _header(shape, "|u1")
    _zip(path, members, count * 3072, name)


def _header(shape: tuple[int, ...], kind: str) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": kind, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def _zip(path: Path, members: dict[str, bytes], zeros: int, padded: str = "") -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in members.items():
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(content)
                for _ in range(zeros // 3_072_000 if name == padded else 0):
                    file.write(bytes(3_072_000))


ARRAYS: tuple[Mutation, ...] = (arrays_content, arrays_content, arrays_content, arrays_bomb)


# The pickles of CIFAR.


def _laughs(depth: int, leaf: Any) -> Any:
    """Ten to the depth in a few hundred bytes: lists that hold one list ten times."""
    found = [leaf] * 10
    for _ in range(depth):
        found = [found] * 10
    return found


class Large:
    """An array as numpy pickles it, but with room for what is not there."""

    def __init__(self, shape: tuple[int, ...], kind: bytes) -> None:
        self.shape, self.kind = shape, kind

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return np.empty(0).__reduce__()[0], (np.ndarray, self.shape, self.kind)


def batch_content(path: Path, draw: Random) -> None:
    """Entries of another kind, some of which grow when they are taken for arrays or texts."""
    content = pickle.loads(path.read_bytes())
    key = draw.choice(list(content))
    content[key] = draw.choice([
        None, 3, "text", [], {}, np.zeros((2, 3072)), np.zeros(3, np.uint8), [1e400], [[1], [1, 2]],
        [-1] * 4, [10**30] * 4, [None] * 4, _laughs(7, 0), _laughs(8, "a"), np.array([{}], object),
        Large((10**12,), b"b"), Large((400_000_000,), b"O"), Payload(path.parent / MARKER),
        [Payload(path.parent / MARKER)], "x" * 100_000, ["../up"] * 10, [b"\xff"] * 10, np.int64(3),
        np.zeros((4, 3072), np.uint8), {"a": "b"}, np.datetime64("2020"),
    ])  # fmt: skip
    if draw.random() < 0.15:
        del content[key]
    path.write_bytes(pickle.dumps(content, protocol=draw.choice([2, 4, 5])))


def batch_opcodes(path: Path, draw: Random) -> None:
    """Another instruction or length in the pickle."""
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 5)):
        place = draw.randrange(min(400, len(content)))
        content[place] = draw.choice(b"R(.\x81\x82bcitu0e\x8e\x8c\x94\x93hqNJ\xff\x00")
    path.write_bytes(content)


BATCHES: tuple[Mutation, ...] = (*(batch_content,) * 4, batch_opcodes, batch_opcodes)
