"""Lists of names as plain text, in columns that fit a window where the names do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

_GAP = "  "


def in_columns(
    headings: Sequence[str], rows: Sequence[tuple[str, Sequence[Sequence[str]]]], width: int
) -> list[str]:
    """Rows of a number and lists of names, every name in full and in one piece.

    Args:
        headings: of the number and of every list; a list that is empty in all rows is left out.
        rows: the number, to the right, and as many lists of names.
        width: of the window; where a name is too long for it, lines are as long as they must be.

    Example:
        >>> rows = [("8", [["a"], ["b", "c"]])]
        >>> for line in in_columns(["", "made by", "read by"], rows, width=20):
        ...     print(line)
             made by  read by
          8  a        b, c
    """
    shown = [i for i in range(len(headings) - 1) if any(lists[i] for _, lists in rows)]
    first = max(len(number) for number in [headings[0], *(number for number, _ in rows)])
    titles = [headings[1 + i] for i in shown]
    lists = [[row[i] for i in shown] for _, row in rows]
    widths = _widths(titles, lists, width - first - len(_GAP) * (1 + len(shown)))
    lines = [_line(headings[0].rjust(first), titles, widths)]
    for (number, _), cells in zip(rows, lists, strict=True):
        wrapped = [_wrapped(names, size) for names, size in zip(cells, widths, strict=True)]
        for row in range(max([1, *map(len, wrapped)])):
            texts = [cell[row] if row < len(cell) else "" for cell in wrapped]
            lines.append(_line(("" if row else number).rjust(first), texts, widths))
    return lines


def in_lines(names: Sequence[str], sentence: str, width: int) -> list[str]:
    """Names and what is to be said of them, broken between words alone.

    Example:
        >>> in_lines(["a", "b"], "they reach the output", 20)
        ['  a, b: they reach', '    the output']
    """
    wrapper = textwrap.TextWrapper(
        width,
        initial_indent=_GAP,
        subsequent_indent=2 * _GAP,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return wrapper.wrap(f"{', '.join(names)}: {sentence}")


def _widths(
    titles: Sequence[str], lists: Sequence[Sequence[Sequence[str]]], room: int
) -> list[int]:
    """As wide as the longest name; what room is left goes to the columns that need it."""
    least, wanted = [], []
    for column, title in enumerate(titles):
        cells = [cells[column] for cells in lists]
        pieces = [piece for names in cells for piece in _wrapped(names, 0)]
        least.append(max(len(title), *map(len, pieces)))
        wanted.append(max(least[-1], *(len(", ".join(names)) for names in cells)))
    widths = least
    while sum(widths) < room and widths != wanted:
        # One character after another, to the narrowest of those that want more.
        hungry = [i for i in range(len(widths)) if widths[i] < wanted[i]]
        narrowest = min(hungry, key=widths.__getitem__)
        widths = [size + (i == narrowest) for i, size in enumerate(widths)]
    return widths


def _wrapped(names: Sequence[str], width: int) -> list[str]:
    """Names between commas, in lines of a width."""
    lines: list[str] = []
    for index, name in enumerate(names):
        text = name if index == len(names) - 1 else f"{name},"
        if lines and len(lines[-1]) + 1 + len(text) <= width:
            lines[-1] += f" {text}"
        else:
            lines.append(text)
    return lines


def _line(first: str, cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return (_GAP + _GAP.join([first, *padded])).rstrip()
