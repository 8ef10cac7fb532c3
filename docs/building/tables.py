"""Columns of numbers in the tables of a page, which stand at the right, unbroken."""

import itertools
import re

_UNIT = r"(?:\s?(?:%|×|M|G|kB|MB|ns|µs|ms|s|min|points))?"
_ONE = rf"[<>+\-−]?\d[\d.,]*(?:e[+-]?\d+)?{_UNIT}"
_NUMBERS = re.compile(rf"{_ONE}(?:\s*(?:±|to|of|–)\s*{_ONE})?(?:\s*\({_ONE}\))?")
# What a cell may not be broken at: all spaces but those within tags and before brackets.
_SPACE = re.compile(r" (?!\()(?![^<]*>)")
_ROW = re.compile(r"<tr>.*?</tr>", re.S)
_CELL = re.compile(r"<(t[hd])\b([^>]*)>(.*?)</\1>", re.S)


def aligned(html: str) -> str:
    """The page with class "number" on the cells of columns that hold nothing but numbers."""
    return re.sub(r"<table>.*?</table>", _aligned, html, flags=re.S)


def _aligned(found: re.Match[str]) -> str:
    rows = [[cell[2] for cell in _CELL.findall(row)] for row in _ROW.findall(found[0])]
    columns = zip(*rows[1:], strict=False)
    places = {place for place, column in enumerate(columns) if _are_numbers(column)}

    def marked(row: re.Match[str]) -> str:
        place = itertools.count()
        return _CELL.sub(lambda cell: _marked(cell) if next(place) in places else cell[0], row[0])

    return _ROW.sub(marked, found[0])


def _are_numbers(column: tuple[str, ...]) -> bool:
    texts = [re.sub(r"<[^>]+>", "", cell).replace("&nbsp;", " ").strip() for cell in column]
    return any(texts) and all(not text or _NUMBERS.fullmatch(text) for text in texts)


def _marked(cell: re.Match[str]) -> str:
    content = cell[3] if cell[1] == "th" else _SPACE.sub("&nbsp;", cell[3])
    return f'<{cell[1]}{cell[2]} class="number">{content}</{cell[1]}>'
