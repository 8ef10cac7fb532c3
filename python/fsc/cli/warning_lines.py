"""Warnings as one line each, without the place in the source that raised them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import click

from fsc.warning import CompressionWarning


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Write every `CompressionWarning` to stderr, each sentence once; others stay as they are."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", CompressionWarning)
        usual = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, CompressionWarning):
                click.echo(f"warning: {' '.join(str(message).split())}", err=True)
            else:
                usual(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
