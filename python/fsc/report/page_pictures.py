"""Pictures of a page as inline SVG: a bar or a dot for each layer, as wide as the window.

Places along the network are percentages, so that letters keep their size in every window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from fsc.report.markup import Markup, joined, tag
from fsc.report.summary import share

# Pixels: of the whole, above and below the bars, beside them for what stands at the lines.
_HEIGHT, _TOP, _BOTTOM, _LEFT = 190, 10, 40, 48
_ROOM = _HEIGHT - _TOP - _BOTTOM
# Of the numbers of layers below, so that they stand apart in a narrow window.
_MOST_NUMBERS = 10
# Decades that the axis of errors reaches below the largest, at most.
_MOST_DECADES = 5


def kept(changes: Sequence[Mapping[str, Any]], *, is_sparse: bool) -> Markup | None:
    """A bar for each layer: how much of it stays; None where all of every layer does.

    Channels, or the weights where no layer loses channels: of a sparse student those that are not
    zero.
    """
    weights = "nonzero" if is_sparse else "weights"
    for kind, what in (("channels", "channels"), (weights, "weights")):
        shares = [each[kind] / max(each[f"{what}_teacher"], 1) for each in changes]
        if any(part < 1 for part in shares):
            title = f"{what.capitalize()} that stay, layer by layer"
            titles = [_told(each, kind, what) for each in changes]
            numbers = list(range(1, len(changes) + 1))
            return _figure(title, _bars(shares, titles), _percent(), numbers, ("kept", "gone"))
    return None


def errors(layers: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> Markup | None:
    """Dots for each solved layer: its error before and after; None where none was solved.

    Args:
        layers: `report.layers`.
        numbers: of the layers, in the table.
    """
    after = [each["relative_error"] for each in layers]
    before = [before_of(each) for each in layers]
    known = [value for value in (*after, *before) if value is not None and value > 0]
    if not known:
        return None
    high = math.ceil(math.log10(max(known)))
    low = max(math.floor(math.log10(min(known))), high - _MOST_DECADES)
    low = min(low, high - 1)

    def height(value: float) -> float:
        place = (math.log10(value) - low) / (high - low) if value > 0 else 0.0
        return min(max(place, 0.0), 1.0)

    ticks = [((power - low) / (high - low), f"{10.0**power:g}") for power in range(low, high + 1)]
    titles = [
        f"{each['name']}: {value:.3g}" + ("" if start is None else f", {start:.3g} before")
        for each, value, start in zip(layers, after, before, strict=True)
    ]
    drawn = joined(
        [
            *_dots([None if value is None else height(value) for value in before], "before"),
            *_dots([height(value) for value in after], "after", titles),
        ]
    )
    told = ("after", "before") if any(value is not None for value in before) else ("after",)
    return _figure("Error along the network", drawn, ticks, numbers, told)


def before_of(layer: Mapping[str, Any]) -> float | None:
    """The error that a layer started from, relative as its error is; None where it is unknown."""
    if not layer["error"]:
        return None
    return float(layer["relative_error"] * layer["error_before"] / layer["error"])


def strip(stays: Sequence[int], total: int) -> Markup:
    """The channels of one layer in a row: those that stay are dark."""
    runs = "".join(f"M{first} 0H{last + 1}V1H{first}Z" for first, last in _runs(stays))
    drawn = tag("path", d=runs, class_="kept") if runs else Markup()
    whole = tag("rect", width=total, height=1, class_="gone")
    return tag(
        "svg",
        whole,
        drawn,
        class_="strip",
        viewBox=f"0 0 {total} 1",
        preserveAspectRatio="none",
        aria_hidden="true",
    )


def _runs(stays: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last of channels that follow each other, in rising order."""
    if not stays:
        return
    first = stays[0]
    for one, other in pairwise(stays):
        if other != one + 1:
            yield first, one
            first = other
    yield first, stays[-1]


def _told(change: Mapping[str, Any], kind: str, what: str) -> str:
    before, after = change[f"{what}_teacher"], change[kind]
    return f"{change['name']}: {after:,} of {before:,} {what}, {share(after, before)}"


def _percent() -> list[tuple[float, str]]:
    return [(value, f"{100 * value:.0f} %") for value in (0.0, 0.5, 1.0)]


def _bars(shares: Sequence[float], titles: Sequence[str]) -> Markup:
    step = 100 / len(shares)
    made = []
    for index, (part, title) in enumerate(zip(shares, titles, strict=True)):
        place = {"x": f"{(index + 0.1) * step:.3f}%", "width": f"{0.8 * step:.3f}%"}
        whole = tag("rect", y=_TOP, height=_ROOM, class_="gone", **place)
        high = _ROOM * min(part, 1.0)
        own = tag(
            "rect", y=f"{_y(min(part, 1.0)):.1f}", height=f"{high:.1f}", class_="kept", **place
        )
        made.append(tag("g", tag("title", title), whole, own))
    return joined(made)


def _dots(
    heights: Sequence[float | None], kind: str, titles: Sequence[str] | None = None
) -> Iterator[Markup]:
    """Dots, joined by lines where neighbours both are there."""
    step = 100 / len(heights)
    places = [
        None if height is None else (f"{(index + 0.5) * step:.3f}%", f"{_y(height):.1f}")
        for index, height in enumerate(heights)
    ]
    for one, other in pairwise(places):
        if one is not None and other is not None:
            yield tag("line", x1=one[0], y1=one[1], x2=other[0], y2=other[1], class_=kind)
    for index, place in enumerate(places):
        if place is not None:
            dot = tag("circle", cx=place[0], cy=place[1], r=3.5, class_=kind)
            yield dot if titles is None else tag("g", tag("title", titles[index]), dot)


def _y(height: float) -> float:
    """Pixels from the top of a share of the room."""
    return _TOP + _ROOM * (1 - height)


def _figure(
    title: str,
    drawn: Markup,
    ticks: Sequence[tuple[float, str]],
    numbers: Sequence[int],
    told: Sequence[str],
) -> Markup:
    """Axes around what is drawn, with a title and what the colours mean."""
    lines = [
        tag("line", x1=0, x2="100%", y1=f"{_y(at):.1f}", y2=f"{_y(at):.1f}", class_="grid")
        for at, _ in ticks
    ]
    marks = [tag("text", mark, x=-6, y=f"{_y(at) + 4:.1f}", class_="mark") for at, mark in ticks]
    legend = [tag("span", tag("i", class_=each), each, class_="key") for each in told]
    # Inside the second SVG percentages are of what is left beside the marks.
    plot = tag("svg", *lines, drawn, *_numbers(numbers), x=0, width="100%", overflow="visible")
    shown = tag(
        "svg",
        *marks,
        plot,
        tag("text", "number of the layer in the table", x="50%", y=_HEIGHT - 4, class_="below"),
        class_="chart",
        height=_HEIGHT,
        role="img",
        aria_label=f"{title}; the numbers are in the table of layers",
        style=f"margin-left: {_LEFT}px; width: calc(100% - {_LEFT}px)",
    )
    return tag("figure", tag("figcaption", tag("span", title), *legend), shown)


def _numbers(numbers: Sequence[int]) -> list[Markup]:
    every = math.ceil(len(numbers) / _MOST_NUMBERS)
    step = 100 / len(numbers)
    return [
        tag(
            "text",
            number,
            x=f"{(index + 0.5) * step:.3f}%",
            y=_HEIGHT - _BOTTOM + 16,
            class_="below",
        )
        for index, number in enumerate(numbers)
        if index % every == 0
    ]
