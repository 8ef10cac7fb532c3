"""The figure of accuracy against the time that students take."""

from __future__ import annotations

import os
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsc.report import figure
from fsc.report.figure import TEACHER
from fsc.report.interval import SMALL_TEST_SET, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = ("#1f5fa8", "#c8641e", "#3f8f4f", "#8a4fa0", "#b03a48", "#3a8f96")
_MARKERS = "osD^vP"
# Percent points below the best student that the axis reaches down to, at most.
_MAX_LOSS_SHOWN = 30.0
_GREY = "#6b6b6b"
_TITLE = 100


@dataclass(frozen=True)
class Point:
    """The students of one target.

    Attributes:
        name: of the target, short: it stands beside the point.
        top1: accuracies in percent, one a draw.
        time: for one image and for a batch, each as a share of the teacher's.
    """

    name: str
    top1: Sequence[float]
    time: tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """The students of one method and kind of target, in the order in which they are joined."""

    name: str
    points: Sequence[Point]

    @property
    def means(self) -> list[float]:
        """The mean accuracy at every point."""
        return [statistics.fmean(point.top1) for point in self.points]


def draw(
    curves: Sequence[Curve],
    path: str | os.PathLike[str],
    *,
    title: str,
    batch: int,
    teacher_top1: float,
    num_test: int,
) -> None:
    """Draw mean accuracy against measured time, one panel for one image and one for a batch.

    Args:
        curves: one a method and kind of target.
        path: the file; its suffix, one of `figure.SUFFIXES`, says which kind.
        title: above both panels.
        batch: how many images the second panel is for.
        teacher_top1: accuracy of the teacher in percent; it stands at 100 % of the time.
        num_test: test images that the accuracies were measured on.

    Raises:
        ValueError: there is nothing to draw, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    figure.check_name(path)
    if not curves or not all(curve.points for curve in curves):
        raise ValueError("draw: curves must not be empty")
    drawn = figure.blank(9.6, 4.4)
    panels = drawn.subplots(1, 2, sharey=True)
    drawn.suptitle(textwrap.fill(title, _TITLE, break_on_hyphens=False), fontsize=11)
    best = max(max(curve.means) for curve in curves)
    floor = max(teacher_top1, best) - _MAX_LOSS_SHOWN
    for index, images in enumerate(("1 image", f"{batch} images")):
        axes = panels[index]
        axes.plot(100, teacher_top1, "*", color=TEACHER, markersize=11,
                  label=f"teacher, {teacher_top1:.2f} %")  # fmt: skip
        for number, curve in enumerate(curves):
            _draw_curve(axes, curve, number, index, num_test, floor)
        axes.set_xlabel(f"time for {images} (% of the teacher's)")
        figure.soften(axes)
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    if min(min(curve.means) for curve in curves) < floor:
        panels[0].set_ylim(bottom=floor)
    panels[0].set_ylabel("top-1 accuracy on the test images (%)")
    panels[0].set_title(_what_stands(curves, num_test), fontsize=9, color=_GREY, loc="left")
    panels[1].legend(frameon=False, fontsize=9)
    figure.write(drawn, path)


def _draw_curve(
    axes: Axes, curve: Curve, number: int, index: int, num_test: int, floor: float
) -> None:
    below = ", below the axis" if max(curve.means) < floor else ""
    color, marker = _COLORS[number % len(_COLORS)], _MARKERS[number % len(_MARKERS)]
    times = [100 * point.time[index] for point in curve.points]
    means = curve.means
    if num_test < SMALL_TEST_SET:
        lows, highs = zip(*(wilson(mean, num_test) for mean in means), strict=True)
        axes.vlines(times, lows, highs, color=color, alpha=0.25, linewidth=4)
    is_repeated = any(len(point.top1) > 1 for point in curve.points)
    spreads = [statistics.stdev(p.top1) if len(p.top1) > 1 else 0.0 for p in curve.points]
    axes.errorbar(
        times,
        means,
        yerr=spreads if is_repeated else None,
        fmt=f"{marker}-",
        markersize=4.5,
        linewidth=1.5,
        capsize=3,
        color=color,
        label=f"{curve.name}{below}",
    )
    for point, time, mean in zip(curve.points, times, means, strict=True):
        axes.annotate(
            point.name,
            (time, mean),
            (4, -10),
            textcoords="offset points",
            fontsize=7,
            color=color,
            annotation_clip=True,
        )


def _what_stands(curves: Sequence[Curve], num_test: int) -> str:
    most = max(len(point.top1) for curve in curves for point in curve.points)
    said = [f"bars: standard deviation of {most} draws"] if most > 1 else []
    if num_test < SMALL_TEST_SET:
        said.append(f"shaded: 95 % interval for {num_test:,} test images")
    return "; ".join(said)
