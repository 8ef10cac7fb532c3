"""Formulas of TeX as MathML, which browsers draw by themselves."""

import re

from latex2mathml.converter import convert


def mathml(tex: str, display: str) -> str:
    """A formula as an element of a page.

    Args:
        tex: without delimiters.
        display: "inline" or "block".

    Raises:
        ValueError: a command is unknown.
    """
    tex = tex.replace(r"\arg\min", r"\operatorname{arg\,min}")
    lines = rf"\begin{{align*}} {tex} \end{{align*}}" if "&" in tex else tex
    element = convert(lines, display=display)
    unknown = re.search(r">[^<]*(\\[A-Za-z]+)", element)
    if unknown:
        raise ValueError(f"formula {tex!r}: {unknown[1]} is not known")
    return element


def block(source: str, *others: object, **named: object) -> str:
    """A fence of formulas, as `pymdownx.superfences` asks for it."""
    return f'<div class="formula">{mathml(source, "block")}</div>'


def within(source: str, *others: object) -> str:
    """A formula in a line, as `pymdownx.inlinehilite` asks for it."""
    return mathml(source, "inline")
