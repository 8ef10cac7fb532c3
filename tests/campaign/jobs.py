"""Long work in a process of its own, short enough to be interrupted many times."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

# What jobs import at work: here once, so that a fork has it and is killed while it computes.
import torch._dynamo  # noqa: F401
from part import Fault
from sklearn import datasets  # noqa: F401

import fsc.methods  # noqa: F401
from fsc.cli import main
from fsc.images import data
from fsc.networks.tensor_files import read_tensors, write_tensors
from fsc.training import supervised

_NETWORK = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1),
        nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )
"""
_MOST_SAID = 1 << 20  # bytes
# What differs from run to run.
_TIMES = {"seconds", "milliseconds", "milliseconds_teacher", "shares_of_time", "gram_seconds"}


@dataclass(frozen=True)
class Job:
    """Work that is started by a function of the folder, and whether it goes on."""

    name: str
    run: Callable[[Path, bool], None]


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, below zero by a signal, what it said, its seconds."""

    code: int
    said: str
    seconds: float


def _compress(method: str, *more: object) -> Callable[[Path, bool], None]:
    def run(folder: Path, resume: bool) -> None:
        _call("compress", *_given(folder), "--method", method, *more, "--output", folder / "out",
              *(["--resume"] if resume else []))  # fmt: skip

    return run


def _compare(folder: Path, resume: bool) -> None:
    _call("compare", *_given(folder), *("--method", "l1", "--method", "cd-nc", "--seeds", 3),
          *("--json", folder / "out" / "runs.json"), *(["--resume"] if resume else []))  # fmt: skip


def _train(folder: Path, resume: bool) -> None:
    """There is no verb that trains: the function that others call goes on by itself."""
    where: dict[str, Any] = {}
    exec(_NETWORK, where)
    model, split = where["network"](), data.load("digits", "train")
    images = data.to_tensor(split.images[:128], (0.3,), (0.4,))
    labels = torch.tensor(split.labels[:128])
    state = folder / "out" / "training.state"
    supervised.train(model, images, labels, epochs=8, state_file=state)
    write_tensors(folder / "out" / "trained.safetensors", model.state_dict(), {})


def _given(folder: Path) -> tuple[object, ...]:
    (folder / "network.py").write_text(_NETWORK)
    return (
        *("--model", f"{folder / 'network.py'}:network", "--data", "digits", "--threads", 1),
        *("--pruning-ratio", 0.5, "--shots", 1, "--test-images", 10),
    )


def _call(*arguments: object) -> None:
    main([str(argument) for argument in arguments], prog_name="fsc")


JOBS = (
    Job("cd-nc", _compress("cd-nc")),
    Job("mir-before", _compress("mir-before", "--mir-steps", 60)),
    Job("default", _compress("default", "--mir-steps", 60)),
    Job("compare", _compare),
    Job("train", _train),
)


def started(job: Job, folder: Path, resume: bool, limits: dict[int, int], said: int) -> int:
    """The number of a process that does a job; what it says goes to a descriptor.

    It is a fork of this one, which has only one thread: a fresh interpreter would take seconds.
    """
    (folder / "tmp").mkdir(exist_ok=True)
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        _redirect(folder, said)
        for limit, value in limits.items():
            resource.setrlimit(limit, (value, resource.RLIM_INFINITY))
        job.run(folder, resume)
        code = 0
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else 0
    except Exception as error:
        print(f"error: {error}" if isinstance(error, OSError | ValueError) else repr(error),
              file=sys.stderr)  # fmt: skip
        code = 2 if isinstance(error, OSError | ValueError | MemoryError | RuntimeError) else 3
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)  # whatever happens: the loop of the campaign is the parent's


def _redirect(folder: Path, said: int) -> None:
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w") for number in (1, 2))
    os.environ |= {"XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder / "tmp")}
    tempfile.tempdir = str(folder / "tmp")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def ended(
    job: Job,
    folder: Path,
    resume: bool = False,
    limits: dict[int, int] | None = None,
    at: tuple[float, Callable[[int], None]] | None = None,
) -> Ended:
    """Does a job to its end.

    Args:
        job: the work.
        folder: of the case.
        resume: whether it goes on.
        limits: of the system, for the process.
        at: after so many seconds something is done, which is told the number of the process.
    """
    start = time.monotonic()
    reading, writing = os.pipe()  # a file would be under the limits of the job
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _MOST_SAID)
    process = started(job, folder, resume, limits or {}, writing)
    os.close(writing)
    if at is not None:
        time.sleep(at[0])
        at[1](process)
    _, status = os.waitpid(process, 0)
    os.set_blocking(reading, False)
    with open(reading, errors="replace") as pipe:
        said = pipe.read()
    return Ended(os.waitstatus_to_exitcode(status), said, time.monotonic() - start)


def outputs(folder: Path) -> dict[str, Any]:
    """What stands in the output folder, without times and the folder's own name.

    Raises:
        Fault: a file is half-written.
    """
    found: dict[str, Any] = {}
    for path in sorted((folder / "out").rglob("*")):
        name = str(path.relative_to(folder / "out"))
        if path.is_file() and not any(part.startswith(".") for part in Path(name).parts):
            found[name] = _content(path, str(folder))
    return found


def _content(path: Path, folder: str) -> Any:
    try:
        if path.suffix == ".json":
            return _without_times(json.loads(path.read_text().replace(folder, "")))
        if path.suffix in (".safetensors", ".state"):
            tensors, header = read_tensors(path)
            bits = {key: (str(v.dtype), v.tolist()) for key, v in sorted(tensors.items())}
            rest = {key: value for key, value in header.items() if key != "sha256"}
            return bits, json.loads(json.dumps(rest).replace(folder, ""))
    except ValueError as error:
        raise Fault(f"half-written: {path.name}: {error}") from error
    return "text"


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(v) for key, v in value.items() if key not in _TIMES}
    return [_without_times(each) for each in value] if isinstance(value, list) else value
