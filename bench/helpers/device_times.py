"""Microseconds of work on a GPU by its clock, called one by one and as a CUDA graph; a table."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

MICROSECONDS = 10_000  # that a measurement takes about


class Time(NamedTuple):
    """Microseconds of one call; None where it was not measured."""

    kind: str
    shape: str
    variant: str
    called: float | None
    graph: float | None


def called(work: Callable[[], object]) -> float:
    """One by one, as the host launches them."""

    def of(count: int) -> float:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(count):
            work()
        end.record()
        end.synchronize()
        return 1e3 * begin.elapsed_time(end) / count

    for _ in range(3):
        work()
    count = max(1, int(MICROSECONDS / of(1)))
    return statistics.median(of(count) for _ in range(3))


def replayed(work: Callable[[], object]) -> float:
    """As a CUDA graph."""
    side, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.synchronize()
    with torch.cuda.graph(graph, stream=side):
        work()
    return called(graph.replay)


def time_of(kind: str, shape: str, variant: str, work: Callable[[], object]) -> Time:
    """Both ways."""
    return Time(kind, shape, variant, called(work), replayed(work))


@contextmanager
def tf32(allowed: bool) -> Iterator[str]:
    """The precision of cuDNN and cuBLAS, in words."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    yield "TF32" if allowed else "float32"
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False


def table(times: Sequence[Time]) -> str:
    """In Markdown, a row for every kind and shape: called / graph."""
    variants = list(dict.fromkeys(time.variant for time in times))
    lines = [" | ".join(["| | layer", *variants]) + " |", "|---" * (len(variants) + 2) + "|"]
    for kind, shape in dict.fromkeys((time.kind, time.shape) for time in times):
        cells = {t.variant: t for t in times if (t.kind, t.shape) == (kind, shape)}
        shown = [
            " / ".join("-" if us is None else f"{us:.4g}" for us in (found.called, found.graph))
            if (found := cells.get(variant))
            else ""
            for variant in variants
        ]
        lines.append(" | ".join([f"| {kind} | {shape}", *shown]) + " |")
    return "\n".join(lines)
