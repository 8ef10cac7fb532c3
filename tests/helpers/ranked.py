"""Programs that several processes of one gloo group run together, for tests."""

from __future__ import annotations

import datetime
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

_SECONDS = 300
# Two processes that wait for work: torch takes seconds to import.
_waiting: list[tuple[Any, Any]] = []  # a process and its end of a pipe each


def on_ranks(work: Callable[..., Any], *arguments: Any, dies: bool = False) -> list[Any]:
    """What a function of an importable module gives on two ranks; an exception is given back.

    Args:
        work: the function.
        arguments: what it is given.
        dies: whether a process may not come back from it; None is given for that one.
    """
    workers = _started() if dies or not _waiting else _waiting
    if not dies:
        _waiting[:] = workers
    with tempfile.TemporaryDirectory() as name:
        for rank, (_, pipe) in enumerate(workers):
            pipe.send((rank, Path(name), work, arguments))
        for process, pipe in workers:
            try:
                came_back = pipe.poll(_SECONDS) and pipe.recv()
            except EOFError:
                came_back = False
            if not came_back or dies:
                process.kill()
        return [_given(Path(name) / f"{rank}.pt") for rank in range(len(workers))]


def _started() -> list[tuple[Any, Any]]:
    context, workers = mp.get_context("spawn"), []
    for _ in range(2):
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there,), daemon=True)
        process.start()
        there.close()  # so that its end is seen
        workers.append((process, here))
    return workers


def _given(path: Path) -> Any:
    return torch.load(path, weights_only=False) if path.is_file() else None


def _serve(pipe: Any) -> None:
    while True:
        try:
            given = pipe.recv()
        except EOFError:
            return
        _run(*given)
        pipe.send(True)


def _run(rank: int, folder: Path, work: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # A file in place of a port: tests side by side cannot meet.
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, datetime.timedelta(seconds=_SECONDS), 2, rank)
    dist.barrier()  # or one that has nothing to do is gone before the other has met it
    try:
        given = work(*arguments)
    except Exception as error:
        given = error
    torch.save(given, folder / f"{rank}.pt")
    dist.destroy_process_group()
