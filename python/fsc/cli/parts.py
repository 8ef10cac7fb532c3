"""How a verb's options become what its work takes, and options of verbs that make students."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import click

from fsc.cli import options

Part = TypeVar("Part")


def part(kind: Callable[..., Part], given: dict[str, Any]) -> Part:
    """An object of the options that are its fields, which are taken out of those given."""
    return kind(**{field.name: given.pop(field.name) for field in fields(kind)})  # type: ignore[arg-type]


def methods(default: Sequence[str] | None = None, told: str | None = None) -> Callable[..., Any]:
    """The option for one method or several.

    Args:
        default: the methods where none is typed; None: the verb finds them itself.
        told: what the help says of the default then.
    """
    return click.option(
        "--method",
        "methods",
        type=options.METHOD,
        multiple=True,
        default=default,
        show_default=told or True,
        metavar="NAME",
        help=f"How to compress: {options.METHODS_IN_HELP}. May be given several times.",
    )


def many_students(default: Sequence[str]) -> Callable[..., Any]:
    """The options of verbs that make students by several methods and draws, and may resume."""
    return options.together(
        options.draw,
        options.num_seeds,
        methods(default),
        options.json_file("every run"),
        options.resume,
        options.figure_path,
        options.overwrite,
        options.test_images(),
        options.teacher_and_data,
        options.resources,
        options.machine,
    )
