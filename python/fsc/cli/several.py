"""`fsc compress` as one of several processes that torchrun has started: who computes and who tells.

Known without torch, which help must not cost.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import torch

_SHARING = "compress"
# The first may solve a layer by thousands of steps, or load data, while the others wait for it.
_LONGEST_WAIT = timedelta(hours=6)
# For the first to say what this process would say, too.
_WAIT_FOR_THE_FIRST = timedelta(seconds=3)
_SAID = "fsc/said"


def processes() -> int:
    """How many processes torchrun has started for this command; 1 without it."""
    is_started = {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= os.environ.keys()
    return int(os.environ["WORLD_SIZE"]) if is_started else 1


def is_first() -> bool:
    """Whether this process is the one that tells and writes."""
    return processes() == 1 or os.environ["RANK"] == "0"


def check_verb(verb: str | None) -> None:
    """Make sure that a verb can be shared, where there is somebody to share it with.

    Raises:
        ValueError: it cannot.
    """
    if processes() > 1 and verb != _SHARING:
        raise ValueError(
            f"fsc {verb} must run in one process, got {processes()} of torchrun: only fsc "
            f"{_SHARING} takes several"
        )


def own_device(name: str) -> str:
    """The device that a process is to have, where all of a machine were given "cuda"."""
    return f"cuda:{os.environ['LOCAL_RANK']}" if processes() > 1 and name == "cuda" else name


@contextmanager
def quiet_unless_first() -> Iterator[None]:
    """Leaves words to the first process."""
    if is_first():
        yield
        return
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def group(device: torch.device) -> Iterator[None]:
    """The process group of torch for what is computed in here, over gloo, between GPUs over NCCL.

    Raises:
        RankLost: torchrun ends this process because another one has ended.
        KeyboardInterrupt: somebody else ends it.
    """
    if processes() == 1:
        yield
        return
    import torch
    import torch.distributed as dist

    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "cpu:gloo,cuda:nccl"
    rank = int(os.environ["RANK"])
    dist.init_process_group(
        backend, timeout=_LONGEST_WAIT, world_size=processes(), rank=rank, store=_store()
    )
    before = signal.signal(signal.SIGTERM, _asked_to_end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        dist.destroy_process_group()


def tell(sentence: str, error: BaseException) -> None:
    """Write what went wrong once, not once a process.

    Args:
        sentence: the same in every process where the same went wrong.
        error: what it is about.
    """
    if processes() == 1:
        click.echo(sentence, err=True)
        return
    # Whoever ends first, torchrun ends all others: not in the middle of a sentence.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    from fsc.ranks import RankLost

    rank = int(os.environ["RANK"])
    if isinstance(error, RankLost):
        survivors = set(range(processes())) - set(error.lost)
        if rank == min(survivors):
            click.echo(sentence, err=True)
    elif is_first():
        click.echo(sentence, err=True)
        _say_to_others(sentence)
    elif not isinstance(error, KeyboardInterrupt) and _said_by_the_first() != sentence:
        click.echo(f"rank {rank}: {sentence}", err=True)


def _asked_to_end(signal_number: int, frame: Any) -> None:
    from fsc import ranks

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gone = ranks.lost()
    raise ranks.RankLost(gone) if gone else KeyboardInterrupt


@cache
def _store() -> Any:
    """Where processes of torchrun leave notes for each other."""
    import torch.distributed as dist

    store, _, _ = next(dist.rendezvous("env://", timeout=_LONGEST_WAIT))
    return store


def _is_kept_by_torchrun() -> bool:
    """Whether notes outlive the first process."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _say_to_others(sentence: str) -> None:
    if not _is_kept_by_torchrun():
        return
    try:
        _store().set(_SAID, sentence)
    except RuntimeError:
        return  # torchrun is gone, and nobody is there to be told.


def _said_by_the_first() -> str:
    if not _is_kept_by_torchrun():
        return ""
    try:
        _store().wait([_SAID], _WAIT_FOR_THE_FIRST)
        return str(_store().get(_SAID).decode())
    except RuntimeError:
        return ""
