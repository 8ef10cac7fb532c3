"""HTML out of parts: whatever is not made here is text, and escaped."""

from __future__ import annotations

import html
from collections.abc import Iterable

# What HTML allows of the characters below a space.
_SPACES = "\t\n\r"
# Elements of HTML that have no end, and those of SVG that end themselves.
_ENDLESS = ("meta", "link", "img", "br", "wbr")
_SHAPES = ("rect", "circle", "line", "path")


class Markup(str):
    """Text that is HTML already."""


def text(value: object) -> Markup:
    """Anything as text of a page, and safe between quotation marks, too.

    Example:
        >>> text('<b title="x">')
        '&lt;b title=&quot;x&quot;&gt;'
    """
    # Names of files may hold what UTF-8 cannot, names of layers anything.
    known = str(value).encode("utf-8", "replace").decode("utf-8")
    shown = (c if c >= " " and c != "\x7f" or c in _SPACES else "\ufffd" for c in known)
    return Markup(html.escape("".join(shown)))


def joined(parts: Iterable[object]) -> Markup:
    """Parts one after the other, those that are not `Markup` escaped."""
    return Markup("".join(part if isinstance(part, Markup) else text(part) for part in parts))


def tag(name: str, /, *parts: object, **attributes: object) -> Markup:
    """An element with what it holds.

    Args:
        name: of the element.
        parts: what it holds; those that are not `Markup` are escaped.
        attributes: their values are escaped; "class_" stands for class, "_" in a name for "-", and
            those that are None are left out.

    Example:
        >>> tag("p", "a < b", tag("br"), class_="note")
        '<p class="note">a &lt; b<br></p>'
    """
    given = {k.rstrip("_").replace("_", "-"): v for k, v in attributes.items() if v is not None}
    start = name + "".join(f' {key}="{text(value)}"' for key, value in given.items())
    if name in _SHAPES:
        return Markup(f"<{start}/>")
    return Markup(f"<{start}>{joined(parts)}{'' if name in _ENDLESS else f'</{name}>'}")


def rows(name: str, cells: Iterable[object], **attributes: object) -> Markup:
    """A row of a table: the first cell heads it, the others are of a kind.

    Args:
        name: "th" for the row of headings, "td" for any other.
        cells: what they hold; one that is a cell already stays as it is.
        attributes: of every cell but the first.
    """
    if name == "th":
        return tag("tr", *(_cell("th", cell, scope="col", **attributes) for cell in cells))
    first, *others = cells
    return tag(
        "tr",
        _cell("th", first, scope="row"),
        *(_cell("td", cell, **attributes) for cell in others),
    )


def table(caption: str, headings: Iterable[object], body: Iterable[Markup]) -> Markup:
    """A table with a caption and headings that a narrow window scrolls sideways."""
    made = tag(
        "table",
        tag("caption", caption),
        tag("thead", rows("th", headings)),
        tag("tbody", *body),
    )
    # Reached by the keyboard, too, as what scrolls must be.
    return tag("div", made, class_="wide", role="region", aria_label=caption, tabindex="0")


def _cell(name: str, content: object, **attributes: object) -> Markup:
    if isinstance(content, Markup) and content.startswith(("<td", "<th")):
        return content
    return tag(name, content, **attributes)
