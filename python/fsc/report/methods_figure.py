"""The figure of methods side by side: how often each is right, and how long it takes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsc.report import figure
from fsc.report.figure import GREY, PAPER, STUDENT, TEACHER
from fsc.report.interval import SMALL_TEST_SET, correct, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Percent points below the teacher that the axis of accuracies reaches down.
_MAX_LOSS_SHOWN = 15.0
# So many of the widest interval fit into the axis: what they hide must not look like a difference.
_INTERVALS_SHOWN = 4.0
_MIN_SPAN = 2.0
_INTERVAL = "#9fbfe0"

# Inches: names, accuracy and seconds from left to right; a digit of a column; a row; the rest.
_NAMES, _ACCURACY, _SECONDS, _DIGIT, _GAP = 1.25, 3.6, 1.7, 0.085, 0.25
_ROW, _LINE, _TOP, _BOTTOM = 0.34, 0.18, 0.72, 1.0


@dataclass(frozen=True)
class Point:
    """One method in the figure.

    Attributes:
        name: of the method.
        top1: mean accuracy in percent.
        std: standard deviation over seeds in percent points, or None for a single run.
        seconds: mean time of compression.
        published: the paper's accuracy in percent, or None.
    """

    name: str
    top1: float
    std: float | None
    seconds: float
    published: float | None = None


def draw(
    points: Sequence[Point],
    path: str | os.PathLike[str],
    *,
    title: str,
    subtitle: str,
    teacher_top1: float,
    num_test: int,
) -> None:
    """Draw accuracy, with the teacher as a line, and time of compression of every method.

    Where the test images are few, every accuracy stands with its 95 % interval, and the axis is at
    least four of them wide.

    Args:
        points: the methods, from top to bottom.
        path: the file; its suffix, one of `figure.SUFFIXES`, says which kind.
        title: above both panels.
        subtitle: below it, smaller.
        teacher_top1: accuracy of the teacher in percent.
        num_test: test images that the accuracies were measured on.

    Raises:
        ValueError: there is nothing to draw, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    figure.check_name(path)
    if not points:
        raise ValueError("draw: points must not be empty")
    if num_test < SMALL_TEST_SET:
        subtitle += (
            f"\nWhere intervals overlap, {num_test:,} images say little about which is better."
        )
    columns = [_top1_column(points, num_test), _seconds_column(points)]
    drawn, accuracy, seconds = _panels(len(points), columns, title, subtitle)
    _draw_accuracy(accuracy, points, teacher_top1, num_test)
    accuracy.set_yticks(range(len(points)), [point.name for point in points])
    seconds.barh(range(len(points)), [p.seconds for p in points], height=0.45, color=STUDENT)
    seconds.set_xlabel("time to compress (s)")
    seconds.set_xlim(left=0)
    seconds.locator_params(axis="x", nbins=4)
    seconds.set_yticks([])
    width, height = drawn.get_size_inches()
    # From the left edge, since the entries may need more than the width of a panel.
    drawn.legend(*accuracy.get_legend_handles_labels(), loc="lower left", ncols=3, frameon=False,
                 bbox_to_anchor=(0.05 / width, 0.02 / height), fontsize=9)  # fmt: skip
    figure.write(drawn, path)


def _panels(
    num_rows: int, columns: Sequence[Sequence[str]], title: str, subtitle: str
) -> tuple[Figure, Axes, Axes]:
    """Both panels, each with its column of numbers, below the titles."""
    texts = [line for column in columns for line in column[0].splitlines()]
    inches = [
        _GAP + _DIGIT * max(len(line) for text in column for line in text.splitlines())
        for column in columns
    ]
    width = _NAMES + _ACCURACY + _SECONDS + sum(inches)
    top = _TOP + _LINE * (len(subtitle.splitlines()) + len(texts) - 2)
    height = top + _ROW * num_rows + _BOTTOM
    drawn = figure.blank(width, height, arranged=False)
    for text, line, size, color in ((title, 0.15, 12, "black"), (subtitle, 0.48, 9, GREY)):
        at = (0.12 / width, 1 - line / height)
        drawn.text(*at, text, fontsize=size, color=color, va="top", linespacing=1.4)
    places = ((_NAMES, _ACCURACY), (_NAMES + _ACCURACY + inches[0], _SECONDS))
    panels = []
    for (left, panel), column, own in zip(places, columns, inches, strict=True):
        box = (left / width, _BOTTOM / height, panel / width, _ROW * num_rows / height)
        axes = drawn.add_axes(box)
        axes.set_ylim(num_rows - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        figure.soften(axes)
        _write_column(axes, column, own)
        panels.append(axes)
    return drawn, panels[0], panels[1]


def _draw_accuracy(axes: Axes, points: Sequence[Point], teacher_top1: float, num_test: int) -> None:
    few, repeated = num_test < SMALL_TEST_SET, any(point.std is not None for point in points)
    right = f"{teacher_top1:.2f} %"
    if few and not repeated:
        right = f"{correct(teacher_top1, num_test)} of {num_test}"
    label = f"teacher, {right}"
    axes.axvline(teacher_top1, color=TEACHER, linestyle="--", linewidth=1.2, label=label)
    floor = _floor(points, teacher_top1, num_test if few else None)
    shown = [(row, point) for row, point in enumerate(points) if point.top1 >= floor]
    if few:
        ends = [wilson(point.top1, num_test) for _, point in shown]
        axes.hlines([row for row, _ in shown], *zip(*ends, strict=True), color=_INTERVAL,
                    linewidth=6, label=f"95 % interval for {num_test:,} test images")  # fmt: skip
    axes.errorbar(
        [point.top1 for _, point in shown],
        [row for row, _ in shown],
        xerr=[point.std or 0.0 for _, point in shown] if repeated else None,
        fmt="o",
        markersize=5,
        color=STUDENT,
        capsize=3,
        label="student, mean ± std" if repeated else "student",
    )
    _draw_papers(axes, points, floor)
    _set_span(axes, shown, teacher_top1, num_test if few else None)
    _draw_failures(axes, [row for row, point in enumerate(points) if point.top1 < floor])
    axes.set_xlabel("top-1 accuracy on the test images (%)")


def _floor(points: Sequence[Point], teacher_top1: float, num_test: int | None) -> float:
    """Where the axis of accuracies ends: a few failures must not flatten all differences."""
    floor = teacher_top1 - _MAX_LOSS_SHOWN
    if num_test is not None:
        start, end = wilson(max(floor, 0.0), num_test)
        floor = min(floor, teacher_top1 - _INTERVALS_SHOWN * (end - start))  # as far as it reaches
    num_below = sum(point.top1 < floor for point in points)
    return floor if num_below <= len(points) // 2 else -math.inf


def _draw_failures(axes: Axes, rows: Sequence[int]) -> None:
    if rows:
        at_edge = axes.get_yaxis_transform()
        axes.plot([0.015] * len(rows), rows, "<", color=STUDENT, transform=at_edge,
                  label="student, below the axis")  # fmt: skip


def _draw_papers(axes: Axes, points: Sequence[Point], floor: float) -> None:
    papers = [(row, p.published) for row, p in enumerate(points) if (p.published or 0) >= floor]
    if any(top1 is not None for _, top1 in papers):
        rows, top1s = zip(*((row, top1) for row, top1 in papers if top1 is not None), strict=True)
        axes.plot(top1s, rows, "D", color=PAPER, fillstyle="none", label="paper")


def _set_span(
    axes: Axes, shown: Sequence[tuple[int, Point]], teacher_top1: float, num_test: int | None
) -> None:
    """Widen the axis to both sides until what is uncertain looks so."""
    axes.margins(x=0.08)
    low, high = axes.get_xlim()
    span = _MIN_SPAN
    if num_test is not None:
        ends = [wilson(top1, num_test) for top1 in (teacher_top1, *(p.top1 for _, p in shown))]
        span = _INTERVALS_SHOWN * max(end - start for start, end in ends)
    high = min(high + max(0.0, span - (high - low)) / 2, 100.5)
    axes.set_xlim(min(low, high - span), high)
    axes.locator_params(axis="x", nbins=6)


def _top1_column(points: Sequence[Point], num_test: int) -> list[str]:
    """Heading and accuracies: counts, where there is one run on few images."""
    if num_test < SMALL_TEST_SET and all(point.std is None for point in points):
        return [
            f"correct\nof {num_test}",
            *(str(correct(point.top1, num_test)) for point in points),
        ]
    spreads = ("" if point.std is None else f" ± {point.std:.2f}" for point in points)
    pairs = zip(points, spreads, strict=True)
    return ["top-1 %", *(f"{point.top1:.2f}{spread}" for point, spread in pairs)]


def _seconds_column(points: Sequence[Point]) -> list[str]:
    digits = 2 if all(point.seconds < 100 for point in points) else 1
    return ["seconds", *(f"{point.seconds:.{digits}f}" for point in points)]


def _write_column(axes: Axes, texts: Sequence[str], inches: float) -> None:
    """A heading and numbers right of the axes, where no line runs through them."""
    for row, text in enumerate(texts, start=-1):
        axes.annotate(
            text,
            (1.0, max(row, -0.5)),
            (72 * (inches - _GAP / 2), 0 if row >= 0 else 4),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="center" if row >= 0 else "bottom",
            fontsize=9,
            color="black" if row >= 0 else GREY,
        )
