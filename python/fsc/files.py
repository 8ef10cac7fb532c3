"""Writing files so that nothing half-written is ever left under the final name."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

# safetensors and torch report a full disk as errors of their own.
WRITE_ERRORS = (OSError, SafetensorError, RuntimeError)


# Path -> what writes the file to the temporary path that it is called with.
Writers = Mapping[Path, Callable[[Path], object]]


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Prove that a file can be written in `folder`, or in what exists of its parents.

    Call it before long work whose result is to be saved there; it leaves nothing behind.

    Raises:
        OSError: the folder cannot be made or written.
    """
    folder = Path(folder)
    probe = _beside(_existing(folder) / "probe")
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
    """Write a file in a temporary folder beside it, then move it to its place.

    Whatever goes wrong, interruption included, `path` holds either what it held before or the
    complete new file, and the temporary folder is gone; that of a process which was killed goes
    with the next writing of the file on the same machine, if the file system has locks (many
    network file systems have none for folders). Missing folders are made.

    Args:
        path: the final name.
        writer: called once with the temporary path, which has the name of `path`; writes the file.

    Raises:
        OSError: the folder or the file cannot be written.
    """
    write_together({Path(path): writer})


def write_together(writers: Writers) -> None:
    """Write files that belong together: all in temporary folders, then move them in order.

    Whatever goes wrong before the last file is complete, every path holds what it held before, and
    folders that were made for them are gone.

    Args:
        writers: path -> its writer, as for `write_atomically`.

    Raises:
        OSError: a folder or a file cannot be written.
    """
    made = [folder for path in writers for folder in missing_folders(path)]
    temporaries: dict[Path, Path] = {}
    try:
        with ExitStack() as folders:
            for path, writer in writers.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                _remove_abandoned(path)
                temporaries[path] = folders.enter_context(_temporary_folder(path)) / path.name
                writer(temporaries[path])
                _flush_to_disk(temporaries[path])
            for path, temporary in temporaries.items():
                os.replace(temporary, path)
    except WRITE_ERRORS as error:
        raise OSError(f"file {path} cannot be written: {reason(error)}") from error
    finally:
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
    # A writer that writes atomically itself names its temporary path, which nobody knows; torch
    # names the line of its source, and keeps the system's error beside.
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__cause__ or link.__context__
    return " ".join(str(error).split()) or type(error).__name__


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())


def _beside(path: Path) -> Path:
    """A new hidden name for what stands beside a file while that is written."""
    return path.with_name(f".{path.name}.{_host()}-{uuid.uuid4().hex[:12]}")


def _host() -> str:
    """This machine, short: locks may be unknown to other machines that share the folder."""
    return f"{zlib.crc32(socket.gethostname().encode()):08x}"


@contextmanager
def _temporary_folder(path: Path) -> Iterator[Path]:
    """A folder beside a file, locked while it is there: whoever can lock it finds it abandoned.

    The system takes the lock off a process that ends, however it ends, and knows it in whatever
    container the process runs. Writers may write atomically themselves: all is in the folder.
    """
    folder, descriptor = _make_locked(path)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _make_locked(path: Path) -> tuple[Path, int]:
    while True:
        folder = _beside(path)
        folder.mkdir()
        # Before the lock is held another process may take the folder for an abandoned one.
        try:
            descriptor = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue
        # Where folders cannot be locked, nobody can take this one for abandoned either.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Removes the temporary folders of a path whose processes have ended without doing so."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.{_host()}-[0-9a-f]{{12}}")
    for entry in os.listdir(path.parent):
        if ours.fullmatch(entry):
            _remove_unlocked(path.with_name(entry))


def _remove_unlocked(folder: Path) -> None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # gone, or somebody else's
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:  # being written, or on a file system that cannot lock it
        pass
    finally:
        os.close(descriptor)


def _flush_to_disk(path: Path) -> None:
    with open(path, "rb+") as file:
        os.fsync(file.fileno())
