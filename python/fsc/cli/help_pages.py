"""How help is set: names with hyphens stay whole, verbs have whole sentences."""

from __future__ import annotations

from collections.abc import Iterable

import click

# Letters that no sentence about a verb has.
_WHOLE_SENTENCE = 1000
# A hyphen that click's wrapping does not break behind.
_UNBROKEN = "\u2011"


class Formatter(click.HelpFormatter):
    """Breaks lines between words only: half a name cannot be typed."""

    def write_dl(
        self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2
    ) -> None:
        """Write names and what is said of each."""
        whole = [(name, said.replace("-", _UNBROKEN)) for name, said in rows]
        super().write_dl(whole, col_max, col_spacing)

    def getvalue(self) -> str:
        """What was written, with the hyphens that can be typed."""
        return super().getvalue().replace(_UNBROKEN, "-")


class Context(click.Context):
    """Has help set by `Formatter`."""

    formatter_class = Formatter


def write_verbs(group: click.Group, formatter: click.HelpFormatter) -> None:
    """Write each verb with its whole sentence, of which click writes what one line holds."""
    listed = [
        (name, verb.get_short_help_str(limit=_WHOLE_SENTENCE))
        for name, verb in sorted(group.commands.items())
    ]
    with formatter.section("Commands"):
        formatter.write_dl(listed)
