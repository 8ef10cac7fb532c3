"""Formulas of TeX as MathML, which browsers draw by themselves."""

import re

from latex2mathml.converter import convert

# What latex2mathml does not know, or draws as a product of letters.
_IN_OTHER_WORDS = {
    r"\arg\min": r"\text{arg min}\,",
    r"\operatorname{im2col}": r"\text{im2col}",
    r"\mathrel{+}=": r"\;\text{+=}\;",
}


def mathml(tex: str, display: str) -> str:
    """A formula as an element of a page.

    Args:
        tex: without delimiters.
        display: "inline" or "block".

    Raises:
        ValueError: a command is unknown.
    """
    for unknown, known in _IN_OTHER_WORDS.items():
        tex = tex.replace(unknown, known)
    lines = rf"\begin{{align*}} {tex} \end{{align*}}" if "&" in tex else tex
    element = convert(lines, display=display)
    left = re.search(r">[^<]*(\\[A-Za-z]+)", element)
    if left:
        raise ValueError(f"formula {tex!r}: {left[1]} is not known")
    return element


def block(source: str, *others: object, **named: object) -> str:
    """A fence of formulas, as `pymdownx.superfences` asks for it."""
    return f'<div class="formula">{mathml(source, "block")}</div>'


def within(source: str, *others: object) -> str:
    """A formula in a line, as `pymdownx.inlinehilite` asks for it."""
    return mathml(source, "inline")
