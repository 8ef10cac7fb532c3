"""Files of tensors that can be read and hold what they should not."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from damage import MARKER, Mutation, Payload
from json_damage import changed
from safetensors.torch import load_file, save_file
from torch import Tensor

from fsc.networks.tensor_files import CHECKSUM, read_tensors, write_tensors

State = dict[str, Any]


def _drawn(state: State, draw: Random) -> str:
    return draw.choice([key for key, value in state.items() if isinstance(value, Tensor)])


def not_finite(state: State, draw: Random) -> None:
    key = draw.choice([key for key, value in state.items() if value.is_floating_point()])
    state[key] = state[key].clone()
    state[key].view(-1)[draw.randrange(state[key].numel())] = draw.choice([float("nan"), -1e999])


def another_shape(state: State, draw: Random) -> None:
    key = _drawn(state, draw)
    value = state[key]
    ways = [
        value[:0],
        value.reshape(-1),
        value[None],
        torch.zeros(()),
        value.repeat(3, *(1,) * (value.ndim - 1)),
    ]
    state[key] = draw.choice(ways if value.ndim else [value[None]]).clone()


def another_dtype(state: State, draw: Random) -> None:
    key = _drawn(state, draw)
    dtypes = [torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool]
    state[key] = state[key].to(draw.choice([*dtypes, torch.complex64, torch.float8_e5m2]))


def missing(state: State, draw: Random) -> None:
    for key in draw.sample(list(state), draw.choice([1, 2, len(state)])):
        del state[key]


def unexpected(state: State, draw: Random) -> None:
    key = draw.choice(["../../up", "/absolute", "a/b", "", ".", "a\nb", "x" * 300, "conv1.weight."])
    state[key] = torch.zeros(2)


def renamed(state: State, draw: Random) -> None:
    keys = list(state)
    first, second = draw.choice(keys), draw.choice(keys)
    state[first], state[second] = state[second], state[first]


def prefixed(state: State, draw: Random) -> None:
    """Names that a wrapper makes, of all or of some."""
    prefix, share = draw.choice(["module.", "model.", "a/b.", "."]), draw.choice([1, 0.5])
    for key in list(state):
        if draw.random() < share:
            state[prefix + key] = state.pop(key)


CHANGES: tuple[Callable[[State, Random], None], ...] = (
    not_finite, another_shape, another_dtype, missing, unexpected, renamed, prefixed,
)  # fmt: skip


# Checkpoints of torch.


def pt_content(path: Path, draw: Random) -> None:
    state = torch.load(path, weights_only=True)
    draw.choice(CHANGES)(state, draw)
    _save(state, path, draw)


def pt_kinds(path: Path, draw: Random) -> None:
    """Entries of another kind, some of which stand for more memory than there is."""
    state, strange = torch.load(path, weights_only=True), _strange(path.parent / MARKER, draw)
    way = draw.randrange(4)
    if way == 0:
        state = strange
    elif way == 1:
        state = {"state_dict": state, "other": strange, 3: strange}
    else:
        state[draw.choice(list(state))] = strange
    try:
        _save(state, path, draw)
    except (RuntimeError, NotImplementedError, TypeError, AttributeError):
        torch.save(["cannot be saved"], path)


def _strange(marker: Path, draw: Random) -> Any:
    return draw.choice([
        lambda: torch.zeros(1).expand(10**9), lambda: torch.zeros(1).expand(10**12),
        lambda: torch.zeros(1).expand(10**5, 10**5), lambda: torch.empty(3, device="meta"),
        lambda: torch.eye(3).to_sparse(), lambda: torch.eye(3).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        lambda: torch.nn.Parameter(torch.ones(3)), lambda: torch.zeros(2, dtype=torch.complex64),
        lambda: {"a": {"b": torch.ones(2)}}, lambda: [torch.ones(2)], lambda: None, lambda: 3,
        lambda: "x" * 10_000, lambda: torch.Size([3]), lambda: torch.float32, lambda: set(),
        lambda: Payload(marker), lambda: [Payload(marker)], lambda: torch.nn.Linear(2, 2),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    ])()  # fmt: skip


def pt_bomb(path: Path, draw: Random) -> None:
    """The records of the archive compressed, the largest of them a gigabyte of zeros."""
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    largest = max((name for name in records if "/data/" in name), key=lambda n: len(records[n]))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in records.items():
            with archive.open(name, "w", force_zip64=True) as record:
                record.write(content)
                for _ in range(500 if name == largest else 0):
                    record.write(bytes(1 << 20))


def pt_names(path: Path, draw: Random) -> None:
    """Records that lie elsewhere, or twice."""
    with zipfile.ZipFile(path) as archive:
        records = [(info.filename, archive.read(info)) for info in archive.infolist()]
    chosen = draw.randrange(len(records))
    name, content = records[chosen]
    records[chosen] = draw.choice([f"../{name}", f"/{name}", name.upper(), "data.pkl", ""]), content
    if draw.random() < 0.5:
        records.append(draw.choice(records))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records:
            archive.writestr(name, content)


def _save(state: Any, path: Path, draw: Random) -> None:
    torch.save(state, path, _use_new_zipfile_serialization=draw.random() < 0.7)


def pt_raw(path: Path, draw: Random) -> None:
    """The pickle of an archive damaged, the archive whole."""
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: bytearray(archive.read(info)) for info in archive.infolist()}
    content = next(records[name] for name in records if name.endswith("data.pkl"))
    for _ in range(draw.randint(1, 4)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    with zipfile.ZipFile(path, "w") as archive:
        for name, record in records.items():
            archive.writestr(name, bytes(record))


PT: tuple[Mutation, ...] = (*(pt_content,) * 4, *(pt_kinds,) * 6, pt_bomb, pt_names, pt_raw, pt_raw)


# Files of safetensors, with a header of fsc or without.


def st_content(path: Path, draw: Random) -> None:
    """Other tensors; a file of fsc is signed anew, as by somebody who means harm."""
    tensors, header = read_tensors(path)
    draw.choice(CHANGES)(tensors, draw)
    if header is None:
        save_file(tensors, path)
    else:
        write_tensors(path, tensors, {k: v for k, v in header.items() if k != CHECKSUM})


def st_unsigned(path: Path, draw: Random) -> None:
    """Other tensors under the header and the checksum of before."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        metadata = json.loads(file.read(length)).get("__metadata__")
    tensors = load_file(path)
    draw.choice(CHANGES)(tensors, draw)
    save_file(tensors, path, metadata)


def st_header(path: Path, draw: Random) -> None:
    """Another header of fsc, signed anew where JSON can express it."""
    tensors, header = read_tensors(path)
    header = changed({k: v for k, v in (header or {}).items() if k != CHECKSUM}, draw)
    try:
        write_tensors(path, tensors, header)
    except (ValueError, TypeError, AttributeError):
        text = json.dumps(header, allow_nan=True)
        save_file(tensors, path, {"fsc": text})


def st_frame(path: Path, draw: Random) -> None:
    """The frame of safetensors itself: its length, and where tensors are said to lie."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header, rest = json.loads(content[8 : 8 + length]), content[8 + length :]
    text = json.dumps(changed(header, draw)).encode()
    if draw.random() < 0.4:
        text, length = content[8 : 8 + length], draw.choice([2**60, 2**63, 10**8, 0, length + 1])
    elif draw.random() < 0.3:
        text = json.dumps({"__metadata__": {"fsc": "[" * 50_000}} | header).encode()
        length = len(text)
    else:
        length = len(text)
    path.write_bytes(length.to_bytes(8, "little") + text + rest)


SAFETENSORS: tuple[Mutation, ...] = (
    *(st_content,) * 3, st_unsigned, st_unsigned, *(st_header,) * 4, st_frame, st_frame, st_frame,
)  # fmt: skip
FORGED = (st_content, st_header)
"""Signed with a checksum of their own: what is read of them is another thing, and no damage."""
