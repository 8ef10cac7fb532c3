"""Figures: methods side by side, layers in a row, a grid of weights."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fsc.files import write_atomically

SUFFIXES = (".png", ".pdf", ".svg")

# Percent points below the teacher that the axis of accuracies reaches down.
_MAX_LOSS_SHOWN = 15.0
_STUDENT, _TEACHER, _PAPER = "#1f5fa8", "#4d4d4d", "#c8641e"
_COLORS = (_STUDENT, _PAPER, "#3f8f4f", "#8a4fa0")


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


def check_name(path: str | os.PathLike[str]) -> None:
    """Make sure that a figure can be of the kind its name says.

    Raises:
        ValueError: the name ends in none of `SUFFIXES`.
    """
    if Path(path).suffix not in SUFFIXES:
        raise ValueError(f"figure must end in {', '.join(SUFFIXES)}, got {Path(path).name!r}")


def draw(
    points: Sequence[Point],
    path: str | os.PathLike[str],
    *,
    title: str,
    teacher_top1: float,
) -> None:
    """Draw accuracy, with the teacher as a line, and time of compression of every method.

    Args:
        points: the methods, from top to bottom.
        path: the file; its suffix, one of `SUFFIXES`, says which kind.
        title: above both panels.
        teacher_top1: accuracy of the teacher in percent.

    Raises:
        ValueError: there is nothing to draw, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    check_name(path)
    if not points:
        raise ValueError("draw: points must not be empty")
    # A Figure of its own instead of pyplot: no window system, no state left behind.
    figure = Figure(figsize=(8.0, 1.9 + 0.42 * len(points)), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(5, 3))
    figure.suptitle(title, fontsize=12)
    _draw_accuracy(left, points, teacher_top1)
    _draw_seconds(right, points)
    left.set_yticks(range(len(points)), [point.name for point in points])
    left.set_ylim(len(points) - 0.4, -0.6)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4,
                  frameon=False)  # fmt: skip
    write_atomically(path, lambda temporary: figure.savefig(temporary))


def _draw_accuracy(axes: Axes, points: Sequence[Point], teacher_top1: float) -> None:
    label = f"teacher, {teacher_top1:.2f} %"
    axes.axvline(teacher_top1, color=_TEACHER, linestyle="--", linewidth=1.2, label=label)
    floor = _floor(points, teacher_top1)
    shown = [(row, point) for row, point in enumerate(points) if point.top1 >= floor]
    repeated = any(point.std is not None for point in points)
    axes.errorbar(
        [point.top1 for _, point in shown],
        [row for row, _ in shown],
        xerr=[point.std or 0.0 for _, point in shown] if repeated else None,
        fmt="o",
        color=_STUDENT,
        capsize=3,
        label="student, mean ± std" if repeated else "student",
    )
    papers = [(row, p.published) for row, p in enumerate(points) if (p.published or 0) >= floor]
    if any(top1 is not None for _, top1 in papers):
        rows, top1s = zip(*((row, top1) for row, top1 in papers if top1 is not None), strict=True)
        axes.plot(top1s, rows, "D", color=_PAPER, fillstyle="none", label="paper")
    axes.margins(x=0.08)
    axes.locator_params(axis="x", nbins=6)
    axes.set_xlim(right=min(axes.get_xlim()[1], 100.5))
    below = [row for row, point in enumerate(points) if point.top1 < floor]
    if below:
        at_edge = axes.get_yaxis_transform()
        axes.plot([0.015] * len(below), below, "<", color=_STUDENT, transform=at_edge,
                  label="student, below the axis")  # fmt: skip
    _write_values(axes, [f"{point.top1:.2f}" for point in points])
    axes.set_xlabel("top-1 accuracy on the test images (%)")
    _soften(axes)


def _floor(points: Sequence[Point], teacher_top1: float) -> float:
    """Where the axis of accuracies ends: a few failures must not flatten all differences."""
    floor = teacher_top1 - _MAX_LOSS_SHOWN
    num_below = sum(point.top1 < floor for point in points)
    return floor if num_below <= len(points) // 2 else -math.inf


def _write_values(axes: Axes, texts: Sequence[str]) -> None:
    """One number a row, in a column right of the axes, where no line runs through it."""
    for row, text in enumerate(texts):
        axes.annotate(
            text,
            (1.0, row),
            (6, 0),
            xycoords=axes.get_yaxis_transform(),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )


def _draw_seconds(axes: Axes, points: Sequence[Point]) -> None:
    seconds = [point.seconds for point in points]
    axes.barh(range(len(points)), seconds, height=0.45, color=_STUDENT)
    _write_values(axes, [f"{value:.2f}" if value < 10 else f"{value:.1f}" for value in seconds])
    axes.set_xlabel("time to compress (s)")
    axes.set_xlim(left=0)
    axes.tick_params(axis="y", left=False)
    _soften(axes)


def _soften(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)


def draw_lines(
    names: Sequence[str],
    lines: Mapping[str, Sequence[float | None]],
    path: str | os.PathLike[str],
    *,
    title: str,
    label: str,
) -> None:
    """Draw one line a method over the layers of a network, with a line at 1.

    Args:
        names: of the layers, in order.
        lines: for each method one value a layer; None leaves a gap.
        path: the file; its suffix, one of `SUFFIXES`, says which kind.
        title: above the axes.
        label: what the values are.

    Raises:
        ValueError: there is nothing to draw, or the suffix is unknown.
        OSError: the file cannot be written.
    """
    check_name(path)
    if not lines:
        raise ValueError("draw_lines: lines must not be empty")
    figure = Figure(figsize=(max(6.0, 2.0 + 0.16 * len(names)), 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    figure.suptitle(title, fontsize=12)
    axes.axhline(1.0, color=_TEACHER, linestyle="--", linewidth=1.2)
    for (name, values), color in zip(lines.items(), _COLORS * len(lines), strict=False):
        heights = [math.nan if value is None else value for value in values]
        axes.plot(range(len(names)), heights, "o-", markersize=3, color=color, label=name)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    axes.set_ylabel(label)
    axes.legend(frameon=False)
    _soften(axes)
    write_atomically(path, lambda temporary: figure.savefig(temporary))


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
    figure = Figure(figsize=(5.2, 4.2), dpi=150, layout="constrained")
    axes = figure.subplots()
    figure.suptitle(title, fontsize=12)
    axes.set_xlabel(names[-1])
    if len(names) == 1:
        xs, heights = zip(*((point[names[0]], point["top1"]) for point in points), strict=True)
        axes.plot(xs, heights, "o-", color=_STUDENT)
        axes.set_ylabel("top-1 accuracy on the test images (%)")
        _soften(axes)
    else:
        side = math.isqrt(len(points))
        top1 = [[point["top1"] for point in points[r * side : (r + 1) * side]] for r in range(side)]
        half = 0.5 / max(1, side - 1)
        extent = (-half, 1 + half, -half, 1 + half)
        image = axes.imshow(top1, origin="lower", extent=extent, cmap="viridis")
        figure.colorbar(image, ax=axes, label="top-1 accuracy on the test images (%)")
        axes.set_ylabel(names[0])
    write_atomically(path, lambda temporary: figure.savefig(temporary))
