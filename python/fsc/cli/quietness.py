"""Whether a command is to say nothing but what went wrong."""

from __future__ import annotations

import click

_KEY = "fsc.quiet"


def remember(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Keep what --quiet says for as long as the command runs."""
    context.meta[_KEY] = value


def is_quiet() -> bool:
    """Whether --quiet was typed; False where no command runs."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(_KEY))
