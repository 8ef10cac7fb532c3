"""Reads a page of HTML and refuses what is not well formed; what is in it, to be looked at."""

from html.parser import HTMLParser

_ENDLESS = {"meta", "link", "img", "br", "wbr"}


class Page(HTMLParser):
    """A page: its elements with their attributes, its text, and its tables as rows of cells."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(content)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        if tag not in _ENDLESS:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert "svg" in self.open, f"{tag} ends itself in HTML"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"{tag} ends in {self.open}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    def row(self, first: str) -> list[str]:
        """The cells behind the one that heads a row."""
        (found,) = [cells[1:] for cells in self.rows if cells and cells[0] == first]
        return found

    def layer(self, name: str) -> list[str]:
        """The cells behind the name of a layer, which stands behind its number."""
        (found,) = [cells[2:] for cells in self.rows if cells[1:2] == [name]]
        return found

    def count(self, tag: str) -> int:
        """How many elements of a kind there are."""
        return sum(name == tag for name, _ in self.elements)
