"""Options for what is to be left of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

import click

from fsc import scheme_tables
from fsc.cli import typed

Command = TypeVar("Command", bound=Callable[..., Any])

_SCHEME: Any = {
    "type": typed.SCHEME,
    "metavar": "NAME|FILE",
    "help": "What to prune: " + ", ".join(scheme_tables.names()) + ", or a JSON file.  "
    "The number of a res, vgg or sparse scheme is the percentage that it removes from the layers "
    "that it prunes; `fsc schemes` says what is left of the whole.",
}
scheme_name = click.option("--scheme", "scheme_name", required=True, **_SCHEME)
_SHARE = click.FloatRange(0, 1, min_open=True)
# What refines shares. The last one stands first in help.
_REFINING = (
    click.option(
        "--style",
        type=click.Choice(get_args(scheme_tables.Style)),
        default="residual",
        show_default=True,
        help="normal leaves whole what several layers make, such as residual streams.",
    ),
    click.option(
        "--round-to",
        type=click.IntRange(1, 2**16),  # more channels no layer has
        default=1,
        show_default=True,
        help="Layers keep a multiple of so many channels.",
    ),
    click.option(
        "--ignore",
        "ignored",
        type=typed.TEXT,
        multiple=True,
        metavar="LAYER",
        help="A layer that keeps all channels that it makes, though it may read fewer: a name, a "
        "pattern such as 'head*', or a type such as Linear. May be given several times.",
    ),
)
_OPTIONS = (
    *_REFINING,
    click.option(
        "--pruning-ratio",
        type=click.FloatRange(0, 1, max_open=True),
        help="Share of the channels that goes, everywhere alike.",
    ),
    click.option(
        "--drop-blocks",
        type=click.IntRange(1, 2**16),  # more blocks no network has
        help="Residual blocks that go, those that are recovered best for the time they save; "
        "for default, MiR and l1.",
    ),
    click.option(
        "--decouple",
        type=click.Choice(["1", "1mix", *map(str, range(2, 9))]),
        metavar="TERMS",
        help="Convolutions become a depthwise and a pointwise one with so many terms, 1 to 8, or "
        "1mix, half of the layers 1 and half 2; for default, fskd, MiR, kd, fitnet, bp and l1.",
    ),
    click.option("--parameters", type=_SHARE, help="Share of the parameters that stays."),
    click.option(
        "--flops",
        type=_SHARE,
        help="Share of the multiply-accumulates that stays; channels go where they lose "
        "least.  [default: 0.5, where nothing else says what is to be left]",
    ),
    click.option("--scheme", "scheme_name", **_SCHEME),
)


def _list(flag: str, kind: typed.Values, what: str) -> Callable[[Command], Command]:
    told = f"{what}, as in {kind.example}."
    return click.option(flag, type=kind, metavar=kind.name, default=(), help=told)


# Several targets, each a list.
_SEVERAL = (
    *_REFINING,
    _list("--drop-blocks", typed.COUNTS, "Numbers of residual blocks that go"),
    _list("--pruning-ratio", typed.SHARES_GONE, "Shares of the channels that go, everywhere alike"),
    _list("--flops", typed.SHARES_LEFT, "Shares of the multiply-accumulates that stay"),
)


def goal(command: Command) -> Command:
    """What is to be left, said once."""
    return _with(command, _OPTIONS)


def several_targets(command: Command) -> Command:
    """Lists of what is to be left."""
    return _with(command, _SEVERAL)


def _with(command: Command, several: Sequence[Callable[[Command], Command]]) -> Command:
    for option in several:
        command = option(command)
    return command
