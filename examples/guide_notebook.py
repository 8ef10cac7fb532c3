"""Makes examples/guide.ipynb of docs/guide.md: its Python blocks are the cells that run.

The page is what is written by hand; a test compares the two. After a change of the page:

    python examples/guide_notebook.py
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE, NOTEBOOK = ROOT / "docs" / "guide.md", ROOT / "examples" / "guide.ipynb"
_BLOCK = re.compile(r"^```python\n(.*?)^```\n", re.M | re.S)
# Links in a line, and those whose targets stand at the end of a paragraph.
_LINK = re.compile(r"(\]\(|^\[\w+\]: )(?!https?:|#)([^)#\s]+)", re.M)


def cells(text: str) -> list[tuple[str, str]]:
    """The cells of a page, in order: ("markdown" or "code", what stands in it)."""
    found = []
    for index, part in enumerate(_BLOCK.split(text)):
        if part.strip():
            kind = "code" if index % 2 else "markdown"
            found.append((kind, part.strip("\n") if index % 2 else _moved(part).strip("\n")))
    return found


def notebook(text: str) -> str:
    """A notebook of a page, nbformat 4.5, without outputs."""
    made = []
    for number, (kind, source) in enumerate(cells(text)):
        cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
        if kind == "code":
            cell |= {"execution_count": None, "outputs": []}
        made.append(cell | {"source": source.splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    content = {"cells": made, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _moved(text: str) -> str:
    """Text of the page whose links to files hold from the folder of the notebook."""

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", link[2]))
        return link[1] + posixpath.relpath(target, "examples")

    return _LINK.sub(moved, text)


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"Written: {NOTEBOOK.relative_to(ROOT)}")
