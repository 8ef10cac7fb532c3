"""Docstrings as Markdown: formulas and doctests as blocks, lifecycles as lists."""

import re
import textwrap

import griffe

_FORMULA = re.compile(r"^( *)\.\. math::(.*(?:\n+\1 +\S.*)*)", re.M)
_WITHIN = re.compile(r":math:`([^`]+)`")
_LIFECYCLE = re.compile(r"^Lifecycle:\n((?: {4}.*\n|\n)+)", re.M)


def readable(docstring: str) -> str:
    """A docstring of Google's style in what Markdown, griffe and the formulas' fences take."""
    text = _FORMULA.sub(_block, docstring)
    text = _WITHIN.sub(lambda found: f"`#!math {' '.join(found[1].split())}`", text)
    text = _LIFECYCLE.sub(lambda found: "**Lifecycle**\n\n" + textwrap.dedent(found[1]), text)
    return re.sub(r"^Example:$", "Examples:", text, flags=re.M)


def _block(found: re.Match[str]) -> str:
    indent = found[1]
    return f"{indent}```math\n{indent}{' '.join(found[2].split())}\n{indent}```"


class Readable(griffe.Extension):
    """Makes every docstring readable once it has been found."""

    def on_object(self, *, obj: griffe.Object, **others: object) -> None:
        """Rewrite the docstring of one module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = readable(obj.docstring.value)
