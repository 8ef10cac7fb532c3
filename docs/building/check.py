"""Whether a built site holds together: links, anchors, names, and nothing from elsewhere.

Run it with `python docs/building/check.py site`, as `make docs` does.
"""

import posixpath
import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import reference

# What a browser fetches by itself, element -> attribute.
_FETCHED = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src"}
# Links that only name an address.
_RELATIONS = {"canonical", "prev", "next"}
_ELSEWHERE = re.compile(r"(?:url\(|@import)\s*[\"']?((?:https?:)?//[^\"')]+)")
# What docstrings may hold and a reader should not see: roles, directives, rules of tables.
_MARKUP = re.compile(r":[a-z]+:`|\.\. [a-z]+::|={5,}|^>>> ", re.M)


class Found(HTMLParser):
    """The anchors of a page, where it leads, and what it fetches."""

    def __init__(self, page: str) -> None:
        """Read a page."""
        super().__init__()
        self.anchors = {""}
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.text = ""
        self._code = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        self._code += tag in ("code", "script", "style")
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if given.get(name)}
        fetched = given.get(_FETCHED.get(tag, ""))
        if fetched and given.get("rel") not in _RELATIONS:
            self.fetched.append(fetched)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])

    def handle_endtag(self, tag: str) -> None:
        """Note the end of one element."""
        self._code -= tag in ("code", "script", "style")

    def handle_data(self, data: str) -> None:
        """Note text that is no code."""
        self.text += "" if self._code else data


def faults(site: Path) -> Iterator[str]:
    """What is wrong with a site, a sentence each."""
    pages = {
        path.relative_to(site).as_posix(): Found(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    for name, page in pages.items():
        for target in page.fetched:
            if re.match(r"(https?:)?//", target):
                yield f"{name} fetches {target}"
        if left := _MARKUP.search(page.text):
            yield f"{name} shows the markup {left[0]!r}"
        for link in page.links + page.fetched:
            # The page for what is not found names the site's root.
            if not re.match(r"\w+:|//", link) and name != "404.html":
                yield from _broken(site, pages, name, link)
    for style in sorted(site.rglob("*.css")):
        for target in _ELSEWHERE.findall(style.read_text(encoding="utf-8")):
            yield f"{style.relative_to(site)} fetches {target}"
    for source, listed in reference.PAGES.items():
        name = source.removesuffix(".md") + ".html"
        for public in listed.names:
            if name not in pages or reference.identifier(public) not in pages[name].anchors:
                yield f"{name} does not document {public}"


def _broken(site: Path, pages: dict[str, Found], name: str, link: str) -> Iterator[str]:
    target, _, anchor = unquote(link).partition("#")
    there = posixpath.normpath(posixpath.join(posixpath.dirname(name), target)) if target else name
    there = posixpath.join(there, "index.html") if (site / there).is_dir() else there
    if not (site / there).is_file():
        yield f"{name} leads to {link}, which is not there"
    elif there in pages and anchor not in pages[there].anchors:
        yield f"{name} leads to {link}, and there is no such place"


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1])))
    print("\n".join(found) or f"{sys.argv[1]}: every link leads somewhere, nothing is fetched")
    sys.exit(bool(found))
