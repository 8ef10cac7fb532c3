"""The figure of accuracy against what is swept: steps, passes, images or learning rates."""

from __future__ import annotations

import math
import os
import statistics
import textwrap
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fsc.report import figure
from fsc.report.figure import ACCURACY, GREY, MARKERS, SERIES, TEACHER
from fsc.report.interval import SMALL_TEST_SET

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A logarithmic axis where the largest value is so many times the smallest, and none is below 0.
_LOGARITHMIC = 8.0
_MAX_TICKS = 9
# Inches: between the first and the last value at least, of a digit below them, between two of them.
_TICKS, _DIGIT, _GAP = 4.6, 0.09, 0.05
# Shares of the axis: from its end to the lowest triangle, and from one to that on top of it.
_LOWEST, _STEP = 0.02, 0.04
# Letters in a line above the axes.
_TITLE, _SUBTITLE = 66, 80


@dataclass(frozen=True)
class Curve:
    """What one method gets right at every value.

    Attributes:
        name: of the method.
        values: of what is swept, increasing.
        top1: accuracies in percent at each of them, one a seed.
        slowed: values at which one diverged and was run again at half the rate.
        ruined: values at which one is worth nothing.
        is_level: whether the method does not depend on what is swept; it has one value then, which
            is not drawn.
    """

    name: str
    values: Sequence[float]
    top1: Sequence[Sequence[float]]
    slowed: Collection[float] = ()
    ruined: Collection[float] = ()
    is_level: bool = False

    @property
    def means(self) -> list[float]:
        """The mean at every value."""
        return [statistics.fmean(each) for each in self.top1]

    @property
    def spreads(self) -> list[float]:
        """The standard deviation at every value; 0 where there is a single seed."""
        return [statistics.stdev(each) if len(each) > 1 else 0.0 for each in self.top1]


def draw(
    curves: Sequence[Curve],
    path: str | os.PathLike[str],
    *,
    title: str,
    label: str,
    teacher_top1: float,
    num_test: int,
) -> None:
    """Draw mean accuracy with its standard deviation, one line a method, and the teacher's.

    The axis of values is logarithmic where they span a factor of eight. Where the test images are
    few, each mean stands in its 95 % interval.
    Where a rate was halved the mark is open, where a student is ruined it is crossed. The axis of
    accuracies ends 30 points below the best one; a mean below it is a triangle at its end.

    Args:
        curves: one a method.
        path: the file; its suffix, one of `figure.SUFFIXES`, says which kind.
        title: above the axes.
        label: what the values are.
        teacher_top1: accuracy of the teacher in percent.
        num_test: test images that the accuracies were measured on.

    Raises:
        ValueError: there is nothing to draw, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    figure.check_name(path)
    if all(curve.is_level for curve in curves) or not all(len(curve.values) for curve in curves):
        raise ValueError("draw: curves must not be empty")
    drawn = figure.blank(6.0, 4.4)
    axes = drawn.subplots()
    drawn.suptitle(textwrap.fill(title, _TITLE, break_on_hyphens=False), fontsize=11)
    axes.axhline(
        teacher_top1,
        color=TEACHER,
        linestyle="--",
        linewidth=1.2,
        label=f"teacher, {teacher_top1:.2f} %",
    )
    floor = _floor(curves)
    values = sorted({value for curve in curves if not curve.is_level for value in curve.values})
    shown = [_across(curve, values) if curve.is_level else curve for curve in curves]
    few = num_test if num_test < SMALL_TEST_SET else None
    for number, curve in enumerate(shown):
        below = ", below the axis" if max(curve.means) < floor else ""
        _draw_curve(axes, curve, number, f"{curve.name}{below}", few)
    _set_values(axes, values)
    _cut_off(axes, curves, floor)
    stands = _what_stands(curves, num_test)
    if _mark_below(axes, shown):
        stands.append("triangles: below the axis")
    axes.set_title(textwrap.fill("; ".join(stands), _SUBTITLE), fontsize=9, color=GREY)
    axes.set_xlabel(label)
    axes.set_ylabel(ACCURACY)
    figure.legend_below(drawn, axes)
    figure.soften(axes)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    figure.write(drawn, path)


def _across(curve: Curve, values: Sequence[float]) -> Curve:
    """The same accuracy at all values."""
    count = len(values)
    slowed, ruined = (values if each else () for each in (curve.slowed, curve.ruined))
    return replace(curve, values=values, top1=[*curve.top1] * count, slowed=slowed, ruined=ruined)


def _draw_curve(axes: Axes, curve: Curve, number: int, label: str, num_test: int | None) -> None:
    # Where colours come again, lines and markers do not.
    again = number // len(SERIES)
    color, marker = _color(number), MARKERS[(number + again) % len(MARKERS)]
    line = ":" if curve.is_level else marker + ("-", "--", "-.")[again % 3]
    if num_test is not None:
        figure.shade(axes, curve.values, curve.means, num_test, color)
    is_repeated = any(len(each) > 1 for each in curve.top1)
    axes.errorbar(
        list(curve.values),
        curve.means,
        yerr=curve.spreads if is_repeated else None,
        fmt=line,
        markersize=4.5,
        linewidth=1.5,
        capsize=3,
        color=color,
        label=label,
    )
    marks = ((curve.slowed, marker, 4.5), (curve.ruined, "x", 8.0))
    for values, shape, size in marks:
        at = [pair for pair in zip(curve.values, curve.means, strict=True) if pair[0] in values]
        if at:
            # Above the line that goes through them.
            axes.plot(*zip(*at, strict=True), shape, color=color, markersize=size,
                      markerfacecolor="white", zorder=5)  # fmt: skip


def _color(number: int) -> str:
    return SERIES[number % len(SERIES)]


def _set_values(axes: Axes, values: Sequence[float]) -> None:
    """A tick at every value where there is room, on a scale that keeps them apart."""
    # Here, as all of matplotlib: it takes a second that only figures should cost.
    from matplotlib.ticker import NullLocator

    if values[0] > 0 and values[-1] / values[0] >= _LOGARITHMIC:
        axes.set_xscale("log")
    if len(values) <= _MAX_TICKS:
        axes.set_xticks(list(values), _labels(values, is_logarithmic=axes.get_xscale() == "log"))
        axes.xaxis.set_minor_locator(NullLocator())


def _in_words(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _labels(values: Sequence[float], *, is_logarithmic: bool) -> list[str]:
    """Increasing values in words; "" for those that would be printed over others."""
    places = [math.log(value) if is_logarithmic else value for value in values]
    span = places[-1] - places[0] or 1.0
    words = [_in_words(value) for value in values]
    inches = [_TICKS * (place - places[0]) / span for place in places]
    halves = [_DIGIT * len(word) / 2 for word in words]
    taken, last = -math.inf, inches[-1] - halves[-1]
    for index, (middle, half) in enumerate(zip(inches, halves, strict=True)):
        is_end = index in (0, len(words) - 1)
        if is_end or taken + _GAP <= middle - half and middle + half <= last - _GAP:
            taken = middle + half
        else:
            words[index] = ""
    return words


def _floor(curves: Sequence[Curve]) -> float:
    """Where the axis of accuracies ends: a few failures must not flatten all differences."""
    return max(max(curve.means) for curve in curves if not curve.is_level) - figure.MAX_LOSS_SHOWN


def _cut_off(axes: Axes, curves: Sequence[Curve], floor: float) -> None:
    """End the axis of accuracies below all that reaches above the floor."""
    means = [mean for curve in curves for mean in curve.means]
    if min(means) < floor:
        whole = [min(c.means) - max(c.spreads) for c in curves if min(c.means) >= floor]
        leaving = any(min(c.means) < floor <= max(c.means) for c in curves)
        lowest = floor if leaving or not whole else min(whole)
        axes.set_ylim(bottom=lowest - 0.05 * (axes.get_ylim()[1] - lowest))


def _mark_below(axes: Axes, curves: Sequence[Curve]) -> bool:
    """Mark at the end of the axis what lies below it, one on top of the other; whether some do."""
    bottom = axes.get_ylim()[0]
    at_edge = axes.get_xaxis_transform()
    taken: dict[float, int] = {}
    for number, curve in enumerate(curves):
        pairs = zip(curve.values, curve.means, strict=True)
        for value in [value for value, mean in pairs if mean < bottom]:
            height = _LOWEST + _STEP * taken.get(value, 0)
            taken[value] = taken.get(value, 0) + 1
            axes.plot(value, height, "v", color=_color(number), markersize=6, transform=at_edge,
                      zorder=5)  # fmt: skip
    return bool(taken)


def _what_stands(curves: Sequence[Curve], num_test: int) -> list[str]:
    said = figure.what_stands([len(each) for curve in curves for each in curve.top1], num_test)
    if any(curve.slowed for curve in curves):
        said.append("open: diverged, run again at half the rate")
    if any(curve.ruined for curve in curves):
        said.append("crossed: ruined in some draw")
    return said
