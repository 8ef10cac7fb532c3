"""Figures as rows by name, printed, kept in figures.json, and compared with what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

Rows = Mapping[str, Mapping[str, float]]

KEPT = Path(__file__).resolve().parents[1] / "figures.json"


class Rule(NamedTuple):
    """When a figure is worse: by more than a share of the kept value, and one of its last digit."""

    more_is_worse: bool
    tolerance: float = 0.0
    grain: float = 0.0


# All that is compared; other figures are printed and kept beside them.
RULES = {
    "registers": Rule(True, 0.05),
    "blocks_an_sm": Rule(False),
    "spilled_bytes": Rule(True),
    "product_share": Rule(False, 0.05, 0.001),
    "divisions": Rule(True),
    "bytes_a_load": Rule(False, 0.05),
    "blocks": Rule(False),
    "launches": Rule(True),
    "library_calls": Rule(True),
    "bytes_ratio": Rule(True, 0.05, 0.001),
    "model_us": Rule(True, 0.05, 0.01),
}
# What depends on the compiler: another release than that of the table is not compared.
OF_COMPILER = (
    *("registers", "blocks_an_sm", "spilled_bytes", "product_share", "divisions"),
    *("bytes_a_load", "model_us"),
)


def is_worse(figure: str, kept: float, found: float) -> bool:
    """Whether a figure has become worse than its rule allows."""
    rule = RULES.get(figure)
    if rule is None:
        return False
    allowed = rule.tolerance * abs(kept) + rule.grain + 1e-9
    return (found - kept if rule.more_is_worse else kept - found) > allowed


def complaints(kept: Rows, found: Rows, figures: Iterable[str] = RULES) -> list[str]:
    """A sentence for every figure that is worse, and for rows that only one of the two has."""
    said = []
    figures = set(figures)
    for name, row in found.items():
        if name not in kept:
            said.append(f"{name}: the kept table has no such row")
            continue
        for figure, value in row.items():
            before = kept[name].get(figure)
            if figure in figures and before is not None and is_worse(figure, before, value):
                words = "at most" if RULES[figure].more_is_worse else "at least"
                said.append(f"{name}: {figure} must be {words} {before:g} as kept, found {value:g}")
    gone = [name for name in kept if name not in found]
    return said + [f"{name}: the kept table has this row, but nothing like it was found"
                   for name in gone]  # fmt: skip


def printed(title: str, rows: Rows) -> str:
    """Rows in columns, with the columns of the first that has most."""
    if not rows:
        return ""
    columns = list(dict.fromkeys(figure for row in rows.values() for figure in row))
    cells = [[title, *columns]]
    for name, row in rows.items():
        cells.append([name, *(f"{row[c]:g}" if c in row else "-" for c in columns)])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = []
    for first, *others in cells:
        rest = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join([first.ljust(widths[0]), *rest]))
    return "\n".join(lines)


def read() -> dict:
    """The kept table; empty where there is none."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.is_file() else {}


def write(table: Mapping) -> None:
    """Keep a table, a row in a line."""
    parts = []
    for title, rows in table.items():
        if isinstance(rows, Mapping):
            lines = ",\n".join(f"    {json.dumps(n)}: {json.dumps(row)}" for n, row in rows.items())
            parts.append(f'  "{title}": {{\n{lines}\n  }}')
        else:
            parts.append(f'  "{title}": {json.dumps(rows)}')
    text = "{\n" + ",\n".join(parts) + "\n}\n"
    temporary = KEPT.with_suffix(".json.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(KEPT)
