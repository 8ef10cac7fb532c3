"""Work that is killed, or runs out of disk or memory: it goes on to the bits of an undisturbed one.

A full disk is a limit on the size of files (RLIMIT_FSIZE), which needs no rights; too little memory
is one on addresses (RLIMIT_AS); a folder that cannot be written any more is made immutable by
`chattr +i`, which holds for root too, and left out where the file system cannot.
"""

from __future__ import annotations

import functools
import getpass
import os
import resource
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import guarded
import jobs
import torch
from jobs import JOBS, Ended, Job
from part import Fault, Part

_KILLS, _SHORTAGES = 20, 4
_OF_TORCH = f"torchinductor_{getpass.getuser()}"  # torch makes it where TMPDIR is
_WAYS = ("killed", "full disk", "too little memory", "read-only")


def case(number: int, folder: Path) -> str:
    """Disturbs one job once and goes on."""
    torch.set_num_threads(1)  # those of OpenMP do not survive a fork
    draw = Random(number)
    kills = len(JOBS) * _KILLS
    way = "killed" if number < kills else _WAYS[1 + (number - kills) // len(JOBS) % 3]
    job = JOBS[number % len(JOBS)]
    try:
        return f"{job.name}, {way}: {disturbed(job, way, folder, draw)}"
    except Fault as fault:
        raise Fault(f"{job.name}, {way}: {fault}") from fault


def disturbed(job: Job, way: str, folder: Path, draw: Random) -> str:
    """What came of a job that was disturbed and taken up again."""
    seconds, good, size = _undisturbed(job)
    (folder / "out").mkdir()
    delay = draw.uniform(0, seconds)
    if way == "killed":
        first = jobs.ended(job, folder, at=(delay, _kill))
    elif way == "full disk":
        limits = {resource.RLIMIT_FSIZE: draw.randrange(size)}
        first = jobs.ended(job, folder, limits=limits)
    elif way == "too little memory":
        room = guarded.bytes_of("VmSize") + draw.randrange(100_000_000)
        first = jobs.ended(job, folder, limits={resource.RLIMIT_AS: room})
    else:
        if not _can_be_immutable(folder):
            return "left out: folders cannot be made immutable here"
        first = _made_immutable(job, folder, delay)
    _check_ending(first, way)
    found = jobs.outputs(folder)  # nothing half-written
    if first.code != 0 and found == good and job.name != "train":
        return "all was written already"  # its lock is for the next one to find stale
    if first.code != 0:
        second = jobs.ended(job, folder, resume=True)
        if second.code != 0:
            raise Fault(f"did not go on: exit {second.code}, {second.said[-300:]!r}")
        found = jobs.outputs(folder)
    _check_same(found, good)
    _check_clean(folder)
    return "the same bits"


def _check_ending(ended: Ended, way: str) -> None:
    """A kill says nothing; all else ends well or in one sentence."""
    if ended.code == 0 or (way == "killed" and ended.code == -signal.SIGKILL):
        return
    errors = [line for line in ended.said.splitlines() if line.startswith("error: ")]
    if ended.code != 2 or len(errors) != 1 or "Traceback" in ended.said:
        raise Fault(f"exit {ended.code}, {ended.said[-300:]!r}")


def _check_same(found: dict[str, Any], good: dict[str, Any]) -> None:
    if found.keys() != good.keys():
        raise Fault(f"other files: {sorted(found.keys() ^ good.keys())}")
    for name, content in good.items():
        if found[name] != content:
            raise Fault(f"other content of {name}")


def _check_clean(folder: Path) -> None:
    """No lock, nothing temporary, nothing unfinished."""
    left = [path for path in (folder / "out").rglob("*") if path.name.startswith(".")]
    left += [path for path in (folder / "tmp").iterdir() if path.name != _OF_TORCH]
    left += (folder / "out").glob("unfinished")
    if left:
        raise Fault(f"left behind: {', '.join(path.name for path in left)}")


@functools.cache
def _undisturbed(job: Job) -> tuple[float, dict[str, Any], int]:
    """Seconds and outputs of a job that nothing disturbs, and the size of its largest file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "out").mkdir()
        ended = jobs.ended(job, folder)
        if ended.code != 0:
            raise Fault(f"{job.name} fails undisturbed: {ended.said[-300:]}")
        sizes = [path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file()]
        return ended.seconds, jobs.outputs(folder), max(sizes)


def _kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def _chattr(flag: str, folder: Path) -> bool:
    if shutil.which("chattr") is None:
        return False
    return subprocess.run(["chattr", "-R", flag, str(folder)], capture_output=True).returncode == 0


def _can_be_immutable(folder: Path) -> bool:
    made = _chattr("+i", folder / "out")
    _chattr("-i", folder / "out")
    return made


def _made_immutable(job: Job, folder: Path, delay: float) -> Ended:
    try:
        return jobs.ended(job, folder, at=(delay, lambda process: _chattr("+i", folder / "out")))
    finally:
        _chattr("-i", folder / "out")


PART = Part(count=len(JOBS) * (_KILLS + 3 * _SHORTAGES), case=case, limit=120)
