"""The figure of accuracy against the time that students take."""

from __future__ import annotations

import os
import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsc.report import figure
from fsc.report.figure import ACCURACY, GREY, MARKERS, SERIES, TEACHER
from fsc.report.interval import SMALL_TEST_SET, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLE = 100  # letters in a line above the panels


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
    """The students of one method, which has a colour, and kind of target, which has a marker.

    The points are in the order in which they are joined.
    """

    method: str
    kind: str
    points: Sequence[Point]

    @property
    def name(self) -> str:
        """Both, as the legend has them."""
        return f"{self.method}, {self.kind}"

    @property
    def means(self) -> list[float]:
        """The mean accuracy at every point."""
        return [statistics.fmean(point.top1) for point in self.points]

    @property
    def spreads(self) -> list[float]:
        """The standard deviation at every point; 0 where there is a single draw."""
        return [statistics.stdev(p.top1) if len(p.top1) > 1 else 0.0 for p in self.points]


def draw(
    curves: Sequence[Curve],
    path: str | os.PathLike[str],
    *,
    title: str,
    batch: int,
    compiled: bool,
    teacher_top1: float,
    num_test: int,
) -> None:
    """Draw mean accuracy against measured time, one panel for one image and one for a batch.

    Args:
        curves: one a method and kind of target.
        path: the file; its suffix, one of `figure.SUFFIXES`, says which kind.
        title: above both panels.
        batch: how many images the second panel is for.
        compiled: whether times are of what `torch.compile` makes of the networks.
        teacher_top1: accuracy of the teacher in percent; it stands at 100 % of the time.
        num_test: test images that the accuracies were measured on.

    Raises:
        ValueError: there is nothing to draw, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    figure.check_name(path)
    if not curves or not all(curve.points for curve in curves):
        raise ValueError("draw: curves must not be empty")
    drawn = figure.blank(9.6, 4.8)
    panels = drawn.subplots(1, 2, sharey=True)
    drawn.suptitle(textwrap.fill(title, _TITLE, break_on_hyphens=False), fontsize=11)
    floor = max(max(curve.means) for curve in curves) - figure.MAX_LOSS_SHOWN
    for index, images in enumerate(("1 image", f"{batch} images")):
        axes = panels[index]
        axes.plot(100, teacher_top1, "*", color=TEACHER, markersize=11,
                  label=f"teacher, {teacher_top1:.2f} %")  # fmt: skip
        for curve in curves:
            _draw_curve(axes, curve, index, _style(curve, curves), num_test, floor)
        axes.set_xlabel(f"time for {images}{', compiled' * compiled} (% of the teacher's)")
        figure.soften(axes)
        axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    panels[0].set_ylabel(ACCURACY)
    draws = [len(point.top1) for curve in curves for point in curve.points]
    stands = "; ".join(figure.what_stands(draws, num_test))
    panels[0].set_title(stands, fontsize=9, color=GREY, loc="left")
    figure.legend_below(drawn, panels[0])
    figure.write(drawn, path)


def _style(curve: Curve, curves: Sequence[Curve]) -> tuple[str, str]:
    """The colour of its method and the marker of its kind."""
    methods = list(dict.fromkeys(each.method for each in curves))
    kinds = list(dict.fromkeys(each.kind for each in curves))
    number, kind = methods.index(curve.method), kinds.index(curve.kind)
    return SERIES[number % len(SERIES)], MARKERS[kind % len(MARKERS)]


def _draw_curve(
    axes: Axes, curve: Curve, index: int, style: tuple[str, str], num_test: int, floor: float
) -> None:
    color, marker = style
    if max(curve.means) < floor:  # it would flatten all others
        axes.plot([], [], f"{marker}-", color=color, label=f"{curve.name}, below the axis")
        return
    times = [100 * point.time[index] for point in curve.points]
    if num_test < SMALL_TEST_SET:
        lows, highs = zip(*(wilson(mean, num_test) for mean in curve.means), strict=True)
        axes.vlines(times, lows, highs, color=color, alpha=0.25, linewidth=4)
    axes.errorbar(
        times,
        curve.means,
        yerr=curve.spreads if any(curve.spreads) else None,
        fmt=f"{marker}-",
        markersize=4.5,
        linewidth=1.5,
        capsize=3,
        color=color,
        label=curve.name,
    )
    for point, time, mean in zip(curve.points, times, curve.means, strict=True):
        axes.annotate(
            point.name,
            (time, mean),
            xytext=(4, -10),
            textcoords="offset points",
            annotation_clip=True,
            fontsize=7,
            color=color,
        )
