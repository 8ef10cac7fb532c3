"""What `fsc tradeoff` prints: a row for every target and method."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.table import Table

from fsc.cli import tables
from fsc.cli.comparison import Comparison
from fsc.cli.given import Inputs
from fsc.cli.record import Record
from fsc.cli.sweep_table import RUINED
from fsc.images.checks import device_of
from fsc.networks.latency import BATCH
from fsc.report.interval import SMALL_TEST_SET

_HEADINGS = (
    ("method", "left"),
    ("target", "left"),
    ("top-1 %", "right"),
    ("95 %", "right"),
    ("FLOPs", "right"),
    ("1 image", "right"),
    (f"{BATCH}", "right"),
    ("seconds", "right"),
)


def row(target: str, runs: Sequence[Record], num_test: int, flops_teacher: int) -> tuple[str, ...]:
    """The mean over the draws of one method and target."""
    top1 = [run.top1 for run in runs]
    flops = statistics.fmean(run.flops for run in runs)
    return (
        runs[0].method,
        target + (f" {RUINED[0]}" if any(run.ruined for run in runs) else ""),
        tables.spread(*tables.mean_and_std(top1)),
        tables.interval(top1, num_test) if num_test < SMALL_TEST_SET else "",
        _percent(flops / flops_teacher),
        *(_percent(statistics.fmean(run.share_of_time(each) for run in runs)) for each in (0, 1)),
        *tables.durations([[run.seconds for run in runs]]),
    )


def table(
    title: str,
    rows: Sequence[tuple[str, ...]],
    inputs: Inputs,
    comparison: Comparison,
) -> Table:
    """All rows; the teacher's accuracy and milliseconds stand below."""
    teacher, records = comparison.teacher, comparison.records
    assert teacher is not None
    few = len(inputs.test_images) < SMALL_TEST_SET
    on_cpu = device_of(inputs.teacher, inputs.example).type == "cpu"
    times = [run.milliseconds_teacher for run in records if run.milliseconds_teacher is not None]
    alone, batch = (statistics.median(each) for each in zip(*times, strict=True))
    compiled = ", both compiled by torch.compile" if comparison.identity["compiled"] else ""
    note = tables.wrapped(
        f"teacher: {teacher.top1:.2f} %, {alone:.3g} ms for 1 image, {batch:.3g} ms for {BATCH}",
        f"top-1 on {inputs.test_name}, mean ± standard deviation over draws",
        *([tables.INTERVAL_NOTE] if few else []),
        f"FLOPs, 1 image, {BATCH}: multiply-accumulates and measured time in percent of "
        f"the teacher's, {'on one thread, ' if on_cpu else ''}BatchNorm folded in both, or in "
        f"neither where one cannot be{compiled}; seconds: mean time to compress",
        *_spread(records),
        *([": ".join(RUINED)] if any(run.ruined for run in records) else []),
    )
    made = Table(title=title, caption=note, box=tables.BOX, pad_edge=False)
    shown = [number for number in range(len(_HEADINGS)) if any(each[number] for each in rows)]
    for number in shown:
        heading, justify = _HEADINGS[number]
        made.add_column(heading, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for each, below in zip(rows, [*rows[1:], ("",)], strict=True):
        made.add_row(*(each[number] for number in shown), end_section=each[0] != below[0])
    return made


def _spread(records: Sequence[Record]) -> list[str]:
    """How far measurements of time lie from what the table says of them, the worst of all runs."""
    farthest = [
        max(
            (
                abs(share - run.share_of_time(index))
                for run in records
                for share in (run.shares_of_time or [[], []])[index]
            ),
            default=None,
        )
        for index in (0, 1)
    ]
    alone, batch = (None if each is None else f"{100 * each:.1f}" for each in farthest)
    if alone is None:
        return []
    return [
        f"of the measurements of each student half lie within {alone} of what stands here for 1 "
        f"image, and within {batch} for {BATCH}"
    ]


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"
