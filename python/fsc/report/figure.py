"""Figures: layers in a row, a grid of weights, and what all figures share."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fsc.files import write_atomically
from fsc.report.interval import SMALL_TEST_SET, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".pdf", ".svg")
STUDENT, TEACHER, PAPER = "#1f5fa8", "#4d4d4d", "#c8641e"
GREY = "#6b6b6b"
ACCURACY = "top-1 accuracy on the test images (%)"
# Of curves beside each other; behind the last the first comes again.
SERIES, MARKERS = ("#1f5fa8", "#c8641e", "#3f8f4f", "#8a4fa0", "#b03a48", "#3a8f96"), "osD^vP"
MAX_LOSS_SHOWN = 30.0  # percent points that an axis reaches below the best network, at most
# Letters in a line above a grid, and of the ticks below it.
_TITLE, _LETTERS = 52, 40
# Inches that a name takes along the axis, written across it.
_NAME = 0.16
# Inches of a figure at most: a page shows wider ones so small that letters cannot be read.
_WIDEST = 7.5
# Of a title of 12 points.
_LETTERS_AN_INCH = 10
# Of a legend of 9 points, and the letters that there would be room for in the place of a line.
_LEGEND_LETTERS_AN_INCH, _SAMPLE = 13, 8
# How long that line is, for all dashes to be told apart, and inches of a row of the legend.
_SAMPLE_EMS, _LEGEND_ROW = 4.0, 0.19
# Percent points from end to end of its accuracies at least, and the share left free around a line.
_LEAST_SPAN, _MARGIN = 0.2, 0.05
_COLORS = (STUDENT, PAPER, "#3f8f4f", "#8a4fa0")


def check_name(path: str | os.PathLike[str]) -> None:
    """Make sure that a figure can be of the kind its name says.

    Raises:
        ValueError: the name ends in none of `SUFFIXES`.
    """
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"figure must end in {', '.join(SUFFIXES)}, got {Path(path).name!r}")


def blank(width: float, height: float, *, arranged: bool = True) -> Figure:
    """Return an empty figure, in inches; `arranged` finds room for what is put in."""
    # A Figure of its own instead of pyplot: no window system, no state left behind. Imported here:
    # matplotlib takes a second that only figures should cost.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained" if arranged else None)


def write(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as the kind that its name says.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(path, lambda temporary: figure.savefig(temporary))


def legend_below(figure: Figure, axes: Axes) -> None:
    """Name the lines of the axes below them, where they cover nothing and take no room."""
    given, names = axes.get_legend_handles_labels()
    # A line with bars is a container of both; bars would hide the mark by which it is told apart.
    handles = [each[0] if isinstance(each, tuple) else each for each in given]
    letters = max(map(len, names)) + _SAMPLE
    fitting = max(1, math.floor(_LEGEND_LETTERS_AN_INCH * figure.get_figwidth() / letters))
    columns = min(fitting, len(names))
    # The axes stay as high as they are with a single row.
    added = _LEGEND_ROW * (math.ceil(len(names) / columns) - 1)
    figure.set_figheight(figure.get_figheight() + added)
    figure.legend(
        handles,
        names,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=9,
        handlelength=_SAMPLE_EMS,
    )


def soften(axes: Axes) -> None:
    """Leave of the frame only what is read."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def shade(
    axes: Axes, places: Sequence[float], top1: Sequence[float], num_test: int, color: str
) -> None:
    """Shade the 95 % intervals of accuracies in percent on so many test images."""
    lows, highs = zip(*(wilson(each, num_test) for each in top1), strict=True)
    axes.fill_between(list(places), lows, highs, color=color, alpha=0.12, linewidth=0)


def what_stands(draws: Collection[int], num_test: int) -> list[str]:
    """What bars and shades around mean accuracies are, in words; `draws` is how many each is of."""
    several = sorted({count for count in draws if count > 1})
    told = f"{several[0]} to {several[-1]}" if len(several) > 1 else "".join(map(str, several))
    said = [f"bars: standard deviation of {told} draws"] if several else []
    if num_test < SMALL_TEST_SET:
        said.append(f"shaded: 95 % interval for {num_test:,} test images")
    return said


def draw_lines(
    names: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    path: str | os.PathLike[str],
    *,
    title: str,
    label: str,
    place: str = "layer",
    level: float = 1.0,
    level_name: str | None = None,
    num_test: int | None = None,
) -> None:
    """Draw one line a method over the layers of a network, with a dashed line at a level.

    Args:
        names: of the layers, in order.
        lines: for each method one value a layer; None leaves a gap.
        path: the file; its suffix, one of `SUFFIXES`, says which kind.
        title: above the axes.
        label: what the values are.
        place: what the names are.
        level: where the dashed line is.
        level_name: what it is called; None: it needs no name.
        num_test: test images, where the values are accuracies on few of them: each stands in its
            95 % interval.

    Raises:
        ValueError: there is nothing to draw, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    check_name(path)
    if not lines:
        raise ValueError("draw_lines: lines must not be empty")
    width = min(max(6.0, 2.0 + _NAME * len(names)), _WIDEST)
    figure = blank(width, 4.2)
    axes = figure.subplots()
    letters = math.floor(_LETTERS_AN_INCH * width)
    figure.suptitle(textwrap.fill(title, letters, break_on_hyphens=False), fontsize=12)
    axes.axhline(level, color=TEACHER, linestyle="--", linewidth=1.2, label=level_name)
    for (name, values), color in zip(lines.items(), _COLORS * len(lines), strict=False):
        heights = [math.nan if value is None else value for value in values]
        axes.plot(range(len(names)), heights, "o-", markersize=3, color=color, label=name)
        if num_test is not None:
            shade(axes, range(len(names)), heights, num_test, color)
    # The last of the names is one of those that there is room for.
    apart = math.ceil(_NAME * len(names) / (width - 1.0))
    shown = range((len(names) - 1) % apart, len(names), apart)
    axes.set_xticks(shown, [names[place] for place in shown], rotation=90, fontsize=7)
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_xlabel(place)
    axes.set_ylabel(label)
    if num_test is not None:
        axes.set_title(
            f"shaded: 95 % interval for {num_test:,} test images", fontsize=9, color=GREY
        )
    legend_below(figure, axes)
    soften(axes)
    write(figure, path)


def draw_grid(
    points: Sequence[Mapping[str, float]], path: str | os.PathLike[str], *, title: str
) -> None:
    """Draw accuracy over one or two weights of a loss: a line, or a map of colours.

    Args:
        points: each {"mu": ..., "top1": ...}, or {"alpha": ..., "beta": ..., "top1": ...} on a
            whole grid in rows of alpha.
        path: the file; its suffix, one of `SUFFIXES`, says which kind.
        title: above the axes.

    Raises:
        ValueError: there is nothing to draw, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    check_name(path)
    if not points:
        raise ValueError("draw_grid: points must not be empty")
    names = [name for name in points[0] if name != "top1"]
    figure = blank(5.2, 4.2)
    axes = figure.subplots()
    figure.suptitle(textwrap.fill(title, _TITLE, break_on_hyphens=False), fontsize=12)
    axes.set_xlabel(names[-1])
    if len(names) == 1:
        _line(axes, [point[names[0]] for point in points], [point["top1"] for point in points])
    else:
        axes.set_ylabel(names[0])
        _map(axes, points, names[-1])
    write(figure, path)


def _line(axes: Axes, values: Sequence[float], top1: Sequence[float]) -> None:
    axes.plot(values, top1, "o-", color=STUDENT)
    axes.set_xticks(*_ticks(values))
    low, high = _limits(top1)
    axes.set_ylim(low - _MARGIN * (high - low), high + _MARGIN * (high - low))
    axes.set_ylabel(ACCURACY)
    soften(axes)


def _map(axes: Axes, points: Sequence[Mapping[str, float]], name: str) -> None:
    side = math.isqrt(len(points))
    values = [point[name] for point in points[:side]]
    top1 = [[point["top1"] for point in points[r * side : (r + 1) * side]] for r in range(side)]
    half = 0.5 / max(1, side - 1)
    extent = (-half, 1 + half, -half, 1 + half)
    low, high = _limits([point["top1"] for point in points])
    image = axes.imshow(top1, origin="lower", extent=extent, cmap="viridis", vmin=low, vmax=high)
    axes.set_xticks(*_ticks(values))
    axes.set_yticks(*_ticks(values))
    axes.figure.colorbar(image, ax=axes, label=ACCURACY)


def _ticks(values: Sequence[float]) -> tuple[Sequence[float], list[str]]:
    """Values of a grid from 0 to 1 that there is room for, evenly spaced, and in words."""
    intervals = len(values) - 1
    # Those that end at 1 first, but not 0 and 1 alone where others lie between.
    steps = sorted(range(1, intervals + 1), key=lambda step: (intervals % step > 0, step))
    found = (values[::step] for step in steps if step == 1 or step < intervals)
    written = ((chosen, [f"{value:.3g}" for value in chosen]) for chosen in found)
    return next(each for each in written if sum(len(word) + 1 for word in each[1]) <= _LETTERS)


def _limits(top1: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis of accuracies; equal ones are not drawn apart."""
    low, high = min(top1), max(top1)
    missing = max(0.0, _LEAST_SPAN - (high - low)) / 2
    return low - missing, high + missing
