"""What a call may cost and touch, and how a refusal reads."""

from __future__ import annotations

import hashlib
import os
import re
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from part import Fault

# Bytes of memory that reading a file may take beyond the file's own size.
SPARE = 200_000_000
# Addresses that a case may ask for: a bomb ends in an error and takes no machine down.
_ADDRESSES = 6_000_000_000
_LONGEST = 1200


@contextmanager
def memory_below(allowed: int) -> Iterator[None]:
    """Finds fault with a peak of resident memory that lies so much above what there was before."""
    before = bytes_of("VmSize") + _ADDRESSES
    limits = resource.getrlimit(resource.RLIMIT_AS)
    peak_anew()
    resident = bytes_of("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (before, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    grown = bytes_of("VmHWM") - resident
    if grown > allowed:
        raise Fault(f"took {grown / 1e6:,.0f} MB, where {allowed / 1e6:,.0f} are allowed")


@contextmanager
def nothing_touched(folder: Path, output: Path | None = None) -> Iterator[None]:
    """Finds fault with whatever changes in a folder, but for an output in it.

    The working folder, the user's cache and temporary files lie in it meanwhile: what is written
    by a relative name, or left behind, is seen too.
    """
    places = {"TMPDIR": folder / "tmp", "XDG_CACHE_HOME": folder / "cache"}
    kept = {name: os.environ.get(name) for name in places}
    here, temporary = Path.cwd(), tempfile.tempdir
    for name, place in places.items():
        place.mkdir(exist_ok=True)
        os.environ[name] = str(place)
    tempfile.tempdir = str(places["TMPDIR"])
    os.chdir(places["TMPDIR"])
    before = tree(folder, output)
    try:
        yield
    finally:
        os.chdir(here)
        tempfile.tempdir = temporary
        for name, value in kept.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    after = tree(folder, output)
    changed = sorted(set(before.items()) ^ set(after.items()))
    if changed:
        raise Fault(f"touched {changed[0][0]}")


def tree(folder: Path, without: Path | None = None) -> dict[str, str]:
    """Everything below a folder, by its path: what it is, and what it holds.

    What fsc keeps in the user's cache may come and go.
    """
    skipped = [each for each in (without, folder / "cache") if each is not None]
    found = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if Path(parent, name) not in skipped]
        for name in (*folders, *names):
            path = Path(parent, name)
            if path not in skipped:
                found[str(path.relative_to(folder))] = _kind(path)
    return found


def check_sentence(text: str, names: tuple[str, ...]) -> None:
    """Finds fault with what is not one short sentence that names a file or an option."""
    if not text or "\n" in text or "\r" in text:
        raise Fault(f"said no one line: {text[:200]!r}")
    if len(text) > _LONGEST:
        raise Fault(f"said {len(text):,} letters: {text[:200]!r}")
    if not any(name in text for name in names) and not re.search(r"(?<!\w)--[a-z]", text):
        raise Fault(f"named none of {', '.join(names)}: {text!r}")
    if "Traceback" in text or "unsupported operand" in text or "object has no attribute" in text:
        raise Fault(f"said what Python says: {text!r}")


def _kind(path: Path) -> str:
    if path.is_symlink():
        return f"link to {os.readlink(path)}"
    if not path.is_file():
        return "folder" if path.is_dir() else "other"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def peak_anew() -> None:
    """What was resident at most ("VmHWM") is what is now."""
    Path("/proc/self/clear_refs").write_text("5")


def bytes_of(key: str) -> int:
    """What Linux counts of this process: "VmSize", addresses; "VmRSS", resident; "VmHWM"."""
    text = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{key}:\s+(\d+) kB", text)[1])
