"""Writing files so that nothing half-written is ever left under the final name."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

# safetensors and torch report a full disk as errors of their own.
WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)


# Path -> what writes the file under the temporary name that it is called with.
Writers = Mapping[Path, Callable[[Path], object]]


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Prove that a file can be written in `folder`, or in what exists of its parents.

    Call it before long work whose result is to be saved there; it leaves nothing behind.

    Raises:
        OSError: the folder cannot be made or written.
    """
    folder = Path(folder)
    probe = _temporary_name(_existing(folder) / "probe")
    try:
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(f"folder {folder} cannot be written: {reason(error)}") from error


def check_room(needed: Mapping[Path, int]) -> None:
    """Prove that the disk has room for what long work is going to write.

    Args:
        needed: folder, which need not exist yet -> bytes of its files; folders on one file system
            share its room.

    Raises:
        OSError: a file system has fewer bytes free.
    """
    sharing: dict[int, list[Path]] = {}
    for folder in needed:
        sharing.setdefault(_existing(folder).stat().st_dev, []).append(folder)
    for folders in sharing.values():
        total = sum(needed[folder] for folder in folders)
        free = shutil.disk_usage(_existing(folders[0])).free
        if total > free:
            raise OSError(
                f"folder {' and '.join(map(str, folders))} must have room for about "
                f"{total / 1e6:,.1f} MB, got {free / 1e6:,.1f} MB free"
            )


def write_atomically(path: str | os.PathLike[str], writer: Callable[[Path], object]) -> None:
    """Write a file under a temporary name in the same folder, then rename it.

    Whatever goes wrong, interruption included, `path` holds either what it held before or the
    complete new file, and the temporary file is gone; that of a process which was killed goes with
    the next writing of the file. Missing folders are made.

    Args:
        path: the final name.
        writer: called once with the temporary name, which ends like `path`; writes the file.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    write_together({Path(path): writer})


def write_together(writers: Writers) -> None:
    """Write files that belong together: all under temporary names, then rename them in order.

    Whatever goes wrong before the last file is complete, every path holds what it held before, and
    folders that were made for them are gone.

    Args:
        writers: path -> its writer, as for `write_atomically`.

    Raises:
        OSError: a folder or a file cannot be written.
    """
    temporaries = {path: _temporary_name(path) for path in writers}
    made = [folder for path in writers for folder in missing_folders(path)]
    try:
        for path, temporary in temporaries.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove_abandoned(path)
            writers[path](temporary)
            _flush_to_disk(temporary)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
    except WRITE_ERRORS as error:
        raise OSError(f"file {path} cannot be written: {reason(error)}") from error
    finally:
        for temporary in temporaries.values():
            _remove(temporary)
        remove_empty(made)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON; numbers that JSON lacks (NaN, Inf) are refused.

    Raises:
        OSError: the folder or the file cannot be written.
        ValueError: `value` holds NaN or Inf.
        TypeError: `value` holds something that JSON cannot express.
    """
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: str | os.PathLike[str], what: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        what: what kind of file it is, for the sentence: "scheme file".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no JSON.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{what} {path} does not exist")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} {path} is no JSON: {error}") from error


def missing_folders(path: Path) -> list[Path]:
    """The folders above a file that do not exist, from the innermost outwards."""
    return [folder for folder in path.parents if not folder.exists()]


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those folders that hold nothing; an outer one comes after what lies in it."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            continue


def reason(error: BaseException) -> str:
    """Why a file could not be written, in the words of the system where it has any."""
    link: BaseException | None = error
    # A writer that writes atomically itself names its temporary file, which nobody knows; torch
    # names the line of its source, and keeps the system's error beside.
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__cause__ or link.__context__
    return " ".join(str(error).split()) or type(error).__name__


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def _temporary_name(path: Path) -> Path:
    # The suffix stays last: writers such as matplotlib choose the format by it.
    name = f".{path.stem}.{_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}{path.suffix}"
    return path.with_name(name)


def _host() -> str:
    """This machine, short: a process of the same number on another one is another."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


def _remove_abandoned(path: Path) -> None:
    """Removes the temporary files of a path whose processes have ended without doing so."""
    ours = re.compile(
        rf"\.{re.escape(path.stem)}\.{_host()}-(\d+)-[0-9a-f]{{12}}{re.escape(path.suffix)}"
    )
    for entry in os.listdir(path.parent):
        name = ours.fullmatch(entry)
        if name is not None and not _runs(int(name[1])):
            _remove(path.with_name(entry))


def _runs(process: int) -> bool:
    """Whether a process of this machine is still there."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # somebody else's
        pass
    return True


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _remove(path: Path) -> None:
    # After a failure the folder itself may be missing or be a file: there is nothing to remove.
    try:
        path.unlink(missing_ok=True)
    except OSError:
        pass
