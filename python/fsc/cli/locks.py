"""A lock on what a command writes, so that two runs never mix their files."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import click

from fsc.cli.paths import check_own
from fsc.files import check_writable, missing_folders, reason, remove_empty
from fsc.warning import CompressionWarning

OTHERWISE = "give --overwrite or name another"
# What file systems answer that cannot lock.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


def hold_folder(option: str, folder: Path, names: Sequence[str]) -> None:
    """Lock a folder until the command ends.

    Args:
        option: that names it.
        folder: that is to be written to.
        names: of the files and folders that are to be written in it.

    Raises:
        OSError: it cannot be written, or another process holds it.
        ValueError: one of these is read, too.
    """
    check_own(option, folder, names)
    _check_writable(option, folder, folder)
    click.get_current_context().with_resource(locked_folder(folder))


def hold_files(given: Mapping[str, Path | None], *, replacing: bool) -> None:
    """Lock the files that a command is to write until it ends.

    Args:
        given: flag -> the file that it names, if any.
        replacing: whether files that are there already may be replaced.

    Raises:
        OSError, ValueError: what `hold_file` raises.
    """
    for option, path in given.items():
        if path is not None:
            hold_file(option, path, replacing=replacing)


def hold_file(option: str, path: Path, *, replacing: bool) -> None:
    """Lock one file that a command is to write until it ends.

    Args:
        option: that names it.
        path: of the file.
        replacing: whether one that is there already may be replaced.

    Raises:
        OSError: it is there already, cannot be written, or another process writes it.
        ValueError: something else that is typed names it too, or what is there is no file.
    """
    check_own(option, path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{option} must name an ordinary file, got {path}, which is none")
    _check_writable(option, path, path.parent)
    click.get_current_context().with_resource(locked_file(path))
    if path.exists() and not replacing:
        raise FileExistsError(
            f"{option} must name a new file, got {path}, which exists: {OTHERWISE}"
        )


def _check_writable(option: str, path: Path, folder: Path) -> None:
    try:
        check_writable(folder)
    except OSError as error:
        raise OSError(
            f"{option} must name a place that can be written, got {path}: {reason(error)}"
        ) from error


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for this process; it is made, and goes again if it stays empty.

    The system takes the lock off a process that ends, however it ends: what a killed run leaves
    behind blocks nobody.

    Raises:
        OSError: another process holds it, or it cannot be made.
    """
    with _locked(f"folder {folder}", folder / ".lock"):
        yield


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold the name of a file for this process, as `locked_folder` does a folder.

    Raises:
        OSError: another process holds it, or its folder cannot be made.
    """
    with _locked(f"file {path}", path.with_name(f".{path.name}.lock")):
        yield


@contextmanager
def _locked(what: str, lock: Path) -> Iterator[None]:
    missing = missing_folders(lock)
    descriptor = _acquire(what, lock)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(descriptor)
        remove_empty(missing)


def _acquire(what: str, lock: Path) -> int:
    """The descriptor of a lock file that nobody else holds, with this process's name in it."""
    while True:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OSError(f"{what} cannot be locked: {reason(error)}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"
            os.close(descriptor)
            raise OSError(
                f"{what} is being written by {holder}: wait for it, or name another"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise OSError(f"{what} cannot be locked: {reason(error)}") from error
            warnings.warn(
                f"{what} cannot be locked ({reason(error)}): no other run may write to it",
                CompressionWarning,
                stacklevel=2,
            )
        # Whoever held it may have removed the file just before it was locked here.
        if _is_still(lock, descriptor):
            _sign(descriptor)
            return descriptor
        os.close(descriptor)


def _sign(descriptor: int) -> None:
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    except OSError:
        # On a full disk the lock holds all the same, only without a name.
        pass


def _is_still(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(lock), os.fstat(descriptor))
    except FileNotFoundError:
        return False
