"""Solved layers on disk, so that an interrupted compression goes on where it stopped."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fsc import ranks
from fsc.arguments import check_folder
from fsc.files import Writers, read_json, write_json
from fsc.layers.layer_problem import Solution
from fsc.methods.identity import AnotherCompression, as_json, described, versions
from fsc.networks.tensor_files import CHECKSUM, has, read_header, read_tensors, write_tensors
from fsc.warning import CompressionWarning

_logger = logging.getLogger(__name__)

_IDENTITY = "identity"
_ENTRY = "entry"  # its own name, lest a file stands in for another
_TENSORS = ("weight", "bias", "channels", "filters")
_LONGEST_NAME = 200  # bytes; with a suffix and what is added while it is written, 255 are taken
_NUMBERS = ("error_before", "error", "error_of_zero")


def fingerprint(tensors: Iterable[Tensor]) -> str:
    """SHA-256 of the values, to tell tensors of one shape apart."""
    digest = hashlib.sha256()
    for value in tensors:
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def origin(
    method: object, seed: int, teacher: nn.Module, images: Tensor, labels: Tensor | None
) -> dict[str, Any]:
    """What two runs of a method must share, whatever they are asked for, to be the same.

    Args:
        method: how a network is compressed.
        seed: of whatever the method draws.
        teacher: the network as the user has it.
        images: what it takes, in one tensor, on its device.
        labels: those that the method learns; None: it learns none.
    """
    seen = {"number": len(images), "sha256": fingerprint([images])}
    return {
        "method": described(method),
        "seed": seed,
        # Devices round differently, so that one does not go on where another stopped.
        "device": images.device.type,
        "images": seen if labels is None else seen | {"labels": fingerprint([labels])},
        "teacher": fingerprint(teacher.state_dict().values()),
        "threads": torch.get_num_threads(),
        "versions": versions(),
    }


class Journal:
    """One file a solved layer, in a folder of its own.

    The networks are run again from the images when a compression goes on; only solutions are kept,
    and those of a layer depend on nothing but the layers before. So the result has the bits of an
    uninterrupted run. Every file says whose it is and holds a checksum: a damaged one is dropped
    with a warning, and its layer solved again. Of several processes the first alone reads and
    writes.

    A training is one entry, its state, overwritten as it goes on. Work of several rounds keeps
    networks and states of trainings, each round in a part of its own.

    Args:
        folder: where the files are; it is made with the first of them.
        identity: what two runs must share to be the same compression, as JSON would hold it.

    Raises:
        AnotherCompression: the folder holds the journal of another compression.
        ValueError: a file is in its place.
        OSError: a damaged file cannot be removed.
    """

    def __init__(self, folder: str | os.PathLike[str], identity: dict[str, Any]) -> None:
        """Takes up what the folder holds."""
        check_folder("journal", folder)
        self.folder = Path(folder)
        self._identity = as_json(identity)
        self._part = ""
        ranks.first(self._check)

    def within(self, part: str) -> Journal:
        """The same journal for a part of the work, whose entries are its own: "round-2-NAME"."""
        found = copy.copy(self)
        found._part = f"{self._part}{part}-"
        return found

    def find(self, name: str, device: torch.device | str = "cpu") -> Solution | None:
        """The solution of a layer, where it was solved before, on the device of the layer.

        Raises:
            OSError: a damaged entry cannot be removed.
        """
        header = dict.fromkeys(_NUMBERS, float)
        entry = self.read(name, "its layer is solved again", header, ("weight",))
        if entry is None:
            return None
        tensors, numbers = entry
        found: dict[str, Any] = dict.fromkeys(_TENSORS)
        found |= {key: tensors[key].to(device) for key in _TENSORS if key in tensors}
        found |= {key: numbers[key] for key in _NUMBERS}
        return Solution(**found)

    def add(self, name: str, solution: Solution) -> None:
        """Keeps the solution of a layer.

        Raises:
            OSError: the file cannot be written; what was kept before stays.
        """
        found = {key: getattr(solution, key) for key in _TENSORS}
        header = {key: getattr(solution, key) for key in _NUMBERS}
        self.write(name, {k: value for k, value in found.items() if value is not None}, header)

    def read(
        self, name: str, otherwise: str, header: Mapping[str, type], tensors: Sequence[str] = ()
    ) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Tensors and header of an entry; None where there is none, or an unfit one was dropped.

        Args:
            name: of the entry.
            otherwise: what an unfit one costs, in words.
            header: what it must say, and of which type.
            tensors: that it must hold.

        Raises:
            OSError: an unfit entry cannot be removed.
        """

        def found() -> tuple[dict[str, Tensor], dict[str, Any]] | None:
            path = self._path(name)
            if not path.is_file():
                return None
            try:
                values, said = self._read(path)
                return values, said | _checked(path, values, said, header, tensors)
            except ValueError as error:
                _drop(path, error, otherwise)
                return None

        return ranks.first(found)

    def _read(self, path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, header = read_tensors(path)
        if not isinstance(header, dict) or CHECKSUM not in header:
            raise ValueError(f"{path} is damaged: it holds no checksum")
        if header.get(_IDENTITY) != self._identity:
            raise ValueError(f"{path} is damaged: it does not say whose it is")
        if header.get(_ENTRY) != path.stem:
            raise ValueError(f"{path} is damaged: it holds the entry of {header.get(_ENTRY)}")
        return tensors, header

    def write(self, name: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
        """Writes an entry, which says itself where it belongs.

        Raises:
            OSError: the file cannot be written; what it held before stays.
        """
        path = self._path(name)
        # All digits of a number: decimal ones would be fewer, or more.
        exact = {k: v.hex() if isinstance(v, float) else v for k, v in header.items()}
        whole = {**exact, _ENTRY: path.stem, _IDENTITY: self._identity}
        ranks.first(lambda: write_tensors(path, tensors, whole))

    def remove(self, name: str) -> None:
        """Removes an entry that is of no use any more, where there is one.

        Raises:
            OSError: it cannot be removed.
        """
        ranks.first(lambda: self._path(name).unlink(missing_ok=True))

    def signature(self) -> Writers:
        """The file that says whose the folder is though it holds no entry, and its writer."""
        content = self._identity | {CHECKSUM: _digest(self._identity)}
        return {self.folder / "identity.json": lambda path: write_json(path, content)}

    def _check(self) -> None:
        self._check_signature()
        # Hidden files are what a killed process had not finished writing.
        entries = sorted(self.folder.glob("[!.]*.safetensors"))
        for path in entries:
            self._check_entry(path)
        if entries:
            _logger.info("going on with %d files of %s", len(entries), self.folder)

    def _check_signature(self) -> None:
        (path,) = self.signature()
        if not path.is_file():
            return
        try:
            found = _read_signature(path)
        except ValueError as error:
            _drop(path, error, "the entries beside it say whose they are")
            return
        if found != self._identity:
            raise AnotherCompression(self.folder, found, self._identity)

    def _check_entry(self, path: Path) -> None:
        header = read_header(path)
        found = header.get(_IDENTITY) if isinstance(header, dict) else None
        if not isinstance(found, dict) or found == self._identity:
            return
        try:
            read_tensors(path)
        except ValueError:
            return  # Damaged: it is dropped where it is read.
        raise AnotherCompression(self.folder, found, self._identity)

    def _path(self, name: str) -> Path:
        return self.folder / f"{_file_name(self._part + name)}.safetensors"


def is_solution(header: Any) -> bool:
    """Whether a header is that of a solved layer; entries of other kinds say other things."""
    return isinstance(header, dict) and all(has(header, key, float) for key in _NUMBERS)


def _file_name(entry: str) -> str:
    """Names of layers may hold slashes, and be longer than those of files; ordinary ones stay."""
    name = entry.replace("%", "%25").replace("/", "%2F").replace("\0", "%00")
    whole = name.encode()
    if len(whole) <= _LONGEST_NAME:
        return name
    start = whole[: _LONGEST_NAME // 2].decode(errors="ignore")
    return f"{start}-{hashlib.sha256(whole).hexdigest()[:32]}"


def _digest(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _read_signature(path: Path) -> dict[str, Any]:
    found = read_json(path, "journal")
    if not isinstance(found, dict) or found.pop(CHECKSUM, None) != _digest(found):
        raise ValueError(f"{path} is damaged: it has not the checksum that it was written with")
    return found


def _checked(
    path: Path,
    tensors: Mapping[str, Tensor],
    header: Mapping[str, Any],
    wanted: Mapping[str, type],
    names: Sequence[str],
) -> dict[str, Any]:
    """What an entry must say, with numbers as numbers."""
    missing = [name for name in names if name not in tensors]
    missing += [key for key, kind in wanted.items() if not has(header, key, kind)]
    if missing:
        raise ValueError(f"{path} is of another version of fsc, without {missing[0]}")
    return {k: float.fromhex(header[k]) if v is float else header[k] for k, v in wanted.items()}


def _drop(path: Path, error: ValueError, otherwise: str) -> None:
    warnings.warn(f"{error}; it is dropped, and {otherwise}", CompressionWarning, stacklevel=2)
    path.unlink(missing_ok=True)
