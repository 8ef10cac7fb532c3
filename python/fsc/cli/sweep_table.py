"""What `fsc sweep` prints: a row for every method and value."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from fsc.cli import tables
from fsc.cli.given import Inputs
from fsc.report.curves_figure import Curve
from fsc.report.interval import SMALL_TEST_SET

# Of a row, and in which words they are explained below the table.
SLOWED = "*", "diverged in some draw, and was run again at half the rate"
RUINED = (
    "†",
    "ruined in some draw: a constant answer does as well, or the cut alone is nearer the teacher",
)


def mark(curve: Curve, value: float) -> str:
    """What stands behind a value at which something went wrong."""
    marks = SLOWED[0] * (value in curve.slowed) + RUINED[0] * (value in curve.ruined)
    return f" {marks}" if marks else ""


def note(inputs: Inputs, teacher_top1: float, curves: Sequence[Curve]) -> str:
    """What stands below the table."""
    few = len(inputs.test_images) < SMALL_TEST_SET
    found = [SLOWED] if any(curve.slowed for curve in curves) else []
    found += [RUINED] if any(curve.ruined for curve in curves) else []
    return tables.wrapped(
        f"teacher: {teacher_top1:.2f} %",
        f"top-1 on {inputs.test_name}, mean ± standard deviation over draws; seconds: mean time "
        "to compress",
        *([tables.INTERVAL_NOTE] if few else []),
        *(f"{sign}: {words}" for sign, words in found),
    )


def table(title: str, label: str, rows: Sequence[tuple[str, ...]], note: str) -> Table:
    """One row a method and value; columns that no row has anything for are left out."""
    made = Table(title=title, caption=note, box=tables.BOX, pad_edge=False)
    headings = ("method", label, "top-1 %", "95 %", "seconds")
    shown = [number for number in range(len(headings)) if any(row[number] for row in rows)]
    for number in shown:
        justify = "left" if number == 0 else "right"
        made.add_column(headings[number], justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row, below in zip(rows, [*rows[1:], ("",)], strict=True):
        made.add_row(*(row[number] for number in shown), end_section=row[0] != below[0])
    return made
