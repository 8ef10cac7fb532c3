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


def on_ranks(work: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Any]:
    """What a function of an importable module gives on every rank; an exception is given back."""
    with tempfile.TemporaryDirectory() as name:
        folder, context = Path(name), mp.get_context("spawn")
        started = [
            context.Process(target=_run, args=(rank, count, folder, work, arguments))
            for rank in range(count)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join(_SECONDS)
        for process in started:
            process.kill()
        return [_given(folder / f"{rank}.pt") for rank in range(count)]


def _given(path: Path) -> Any:
    return torch.load(path, weights_only=False) if path.is_file() else None


def _run(rank: int, count: int, folder: Path, work: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    # A file in place of a port: tests side by side cannot meet.
    store = f"file://{folder}/store"
    longest = datetime.timedelta(seconds=_SECONDS)
    dist.init_process_group("gloo", store, longest, count, rank)
    try:
        given = work(*arguments)
    except Exception as error:
        given = error
    torch.save(given, folder / f"{rank}.pt")
    dist.destroy_process_group()
