"""Tables and numbers as people read them; they fit 80 columns and never cut a number."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from fsc import scheme_tables
from fsc.cli import quietness
from fsc.methods import LayerReport
from fsc.networks.cost import Size
from fsc.report.interval import wilson

FLOPS_NOTE = "FLOPs: multiply-accumulates for one image"
INTERVAL_NOTE = "95 %: where the accuracy on many more such images lies, 19 times in 20"

BOX = box.SIMPLE_HEAD
_MIN_WIDTH = 80
_MAX_WIDTH = 1000


@dataclass(frozen=True)
class Row:
    """One network in a table.

    Attributes:
        name: of the method, or "teacher".
        top1: accuracies in percent, one a seed.
        top5: shares of images whose label is among the five highest scores, where they are shown.
        seconds: of compression, one a seed; empty where nothing was timed.
        size: what it costs.
        published: the paper's accuracy, ready to print, or "".
        num_test: test images, where the 95 % interval is to be shown.
        kilobytes: of its file, or None.
        milliseconds: for one image, or None.
        milliseconds_batch: for 64 at once, or None.
    """

    name: str
    top1: Sequence[float]
    seconds: Sequence[float]
    size: Size
    published: str = ""
    num_test: int | None = None
    kilobytes: float | None = None
    milliseconds: float | None = None
    top5: Sequence[float] = ()
    milliseconds_batch: float | None = None


def shots(count: int, ways: int | None = None) -> str:
    """How many images of each class, or of each of some classes, in words."""
    images = "1 image" if count == 1 else f"{count} images"
    if ways is None:
        return f"{images} a class"
    return f"{images} of 1 class" if ways == 1 else f"{images} of each of {ways} classes"


def draws(count: int) -> str:
    """So many draws, in words."""
    return "1 draw" if count == 1 else f"{count} draws"


def spread(mean: float, std: float | None) -> str:
    """Format an accuracy in percent, with its standard deviation where there is one."""
    return f"{mean:.2f}" if std is None else f"{mean:.2f} ± {std:.2f}"


def mean_and_std(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None for a single value, which has none."""
    std = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), std


def durations(rows: Sequence[Sequence[float]]) -> list[str]:
    """Format mean times, all with as many digits; "" where nothing was timed."""
    means = [statistics.fmean(seconds) if seconds else None for seconds in rows]
    digits = 2 if all(mean is None or mean < 100 for mean in means) else 1
    return ["" if mean is None else f"{mean:.{digits}f}" for mean in means]


def interval(top1: Sequence[float], num_test: int) -> str:
    """Format the 95 % interval of a mean accuracy on so many test images; "" without any."""
    if not top1:
        return ""
    low, high = wilson(statistics.fmean(top1), num_test)
    return f"{low:.1f}–{high:.1f}"


def what_stays(scheme_name: str, model_name: str | None, teacher: Size, student: Size) -> list[str]:
    """What a scheme does and what it leaves, a sentence each."""
    done = scheme_tables.in_words(scheme_name, model_name)
    shares = [
        f"{100 * left / whole:.0f} % of the {what}"
        for what, left, whole in (
            ("parameters", student.parameters, teacher.parameters),
            ("multiply-accumulates", student.flops, teacher.flops),
        )
        if left < whole
    ]
    stays = f"{' and '.join(shares)} stay." if shares else "Every parameter stays."
    if student.nonzero < 0.99 * student.parameters:
        stays = (
            f"{100 * student.nonzero / teacher.parameters:.0f} % of the parameters are not zero."
        )
    return [f"Scheme {scheme_name} {done}.", stays] if done else [stays]


def wrapped(*sentences: str) -> str:
    """Join sentences to lines that fit a window of 80 columns, each beginning a new one."""
    # Paths and names stay whole, so that they can be copied.
    wrapper = textwrap.TextWrapper(_MIN_WIDTH, break_on_hyphens=False, break_long_words=False)
    return "\n".join(wrapper.fill(sentence) for sentence in sentences)


def networks(title: str, rows: Sequence[Row], caption: str = "") -> Table:
    """Table of networks; the first row is the teacher, to which sizes are related.

    Columns that no row has anything for are left out. Where nothing is cut out, a line says what
    all networks have.
    """
    columns, teacher = _columns(rows), rows[0].size
    left_out = {heading for heading, cells in columns.items() if not any(cells)}
    if any(columns["paper %"]) or any(columns["kB"]):
        left_out.add("FLOPs left")
    # Training leaves a few zeros; a column is worth it where weights were pruned.
    if all(row.size.nonzero > 0.99 * row.size.parameters for row in rows):
        left_out.add("not zero")
    elif len(rows) > 1 and all(row.size.flops == teacher.flops for row in rows):
        left_out |= {"parameters", "FLOPs", "FLOPs left"}
        shared = f"FLOPs of all: {_millions(teacher.flops)}, nothing is cut out; teacher: "
        caption = f"{shared}{teacher.parameters:,} parameters\n{caption}".rstrip()
    table = _table(title, caption)
    table.add_column("network", no_wrap=True)
    shown = {heading: cells for heading, cells in columns.items() if heading not in left_out}
    for heading in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    for index, row in enumerate(rows):
        table.add_row(row.name, *(column[index] or "-" for column in shown.values()))
    return table


def _columns(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What there is to say of networks, a cell each; "" where a row has nothing."""
    shares = [f"{100 * row.size.flops / rows[0].size.flops:.0f} %" for row in rows[1:]]
    return {
        "top-1 %": [spread(*mean_and_std(row.top1)) if row.top1 else "" for row in rows],
        "95 %": [interval(row.top1, row.num_test) if row.num_test else "" for row in rows],
        "top-5 %": [spread(*mean_and_std(row.top5)) if row.top5 else "" for row in rows],
        "paper %": [row.published for row in rows],
        "seconds": durations([row.seconds for row in rows]),
        "parameters": [f"{row.size.parameters:,}" for row in rows],
        "not zero": [f"{row.size.nonzero:,}" for row in rows],
        "kB": [f"{row.kilobytes:,.0f}" if row.kilobytes else "" for row in rows],
        "ms": [f"{row.milliseconds:.2f}" if row.milliseconds else "" for row in rows],
        "ms of 64": [
            f"{row.milliseconds_batch:,.0f}" if row.milliseconds_batch else "" for row in rows
        ],
        "FLOPs": [_millions(row.size.flops) for row in rows],
        "FLOPs left": ["", *shares],
    }


def _millions(flops: int) -> str:
    return f"{flops / 1e6:,.2f} M"


def layers(reports: Sequence[LayerReport], limit: int | None) -> Table:
    """Table of the relative errors of solved layers: all of them in order, or the worst few."""
    shown = list(reports)
    title = f"The {len(shown)} solved layers"
    if limit is not None and limit < len(shown):
        shown = sorted(shown, key=lambda report: report.relative_error, reverse=True)[:limit]
        title = f"Worst {limit} of {len(reports)} solved layers (--layers shows all)"
    table = _table(
        title,
        "error: distance to the teacher's output over its mean square;\n"
        "before: with the teacher's weight on the kept channels",
    )
    table.add_column("layer", no_wrap=True)
    for heading in ("error", "before", "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for report in shown:
        ratio = report.error_before / report.error if report.error else 1.0
        errors = (report.relative_error, report.relative_error * ratio)
        table.add_row(report.name, *(f"{error:.4f}" for error in errors), f"{report.seconds:.3f}")
    return table


def show(*things: Table | str) -> None:
    """Write tables and paragraphs to stdout, as wide as the tables need in any window.

    Title and caption of a table stand around it as lines of their own: rich would break them at
    the width of the table. With --quiet nothing is written.
    """
    if quietness.is_quiet():
        return
    console = Console(highlight=False, emoji=False)
    usual = max(console.width, _MIN_WIDTH)
    for thing in things:
        if isinstance(thing, str):
            console.print(thing, markup=False, soft_wrap=True)
            continue
        title, caption = thing.title, thing.caption
        thing.title = thing.caption = None
        console.print()
        console.print(wrapped(str(title)), style="bold", markup=False, soft_wrap=True)
        if _width(console, thing) > _MIN_WIDTH:
            thing.padding = (0, 0)
        console.width = max(usual, _width(console, thing))
        console.print(thing)
        if caption:
            console.print(caption, style="dim", markup=False, soft_wrap=True)


def _width(console: Console, table: Table) -> int:
    """How many columns of the window a table needs."""
    options = console.options.update(max_width=_MAX_WIDTH)
    return console.measure(table, options=options).maximum


def show_written(*paths: Path | None) -> None:
    """Say which files were written, where there are any; None stands for one not asked for."""
    written = [str(path) for path in paths if path is not None]
    if written:
        show(f"Written: {', '.join(written)}")


def _table(title: str, caption: str) -> Table:
    return Table(title=title, caption=caption, box=BOX, pad_edge=False, collapse_padding=True)
