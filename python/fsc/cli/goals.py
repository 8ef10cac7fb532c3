"""What is to be left of a network, from what is typed."""

from __future__ import annotations

from dataclasses import dataclass

import click
from torch import nn

from fsc import schemes
from fsc.cli.given import Inputs
from fsc.cli.inputs import find_scheme
from fsc.goal import Goal
from fsc.networks.wrappers import unwrap
from fsc.scheme_tables import Style
from fsc.schemes.ignoring import ignored_layers

# A type that every network has: "Linear" and "Conv2d" can be typed like names of layers.
_TYPES = {name: kind for name, kind in vars(nn).items() if isinstance(kind, type)}


@dataclass(frozen=True)
class Asked:
    """The options that say what is to be left, as they are typed.

    Attributes:
        scheme_name: of a published scheme, or the path of a file.
        flops: share of the multiply-accumulates that stays.
        parameters: share of the parameters that stays.
        pruning_ratio: share of the channels that goes.
        ignored: names, patterns and types of layers that stay whole.
        round_to: layers keep a multiple of so many channels.
        style: which channels are pruned, all or those inside blocks.
    """

    scheme_name: str | None
    flops: float | None
    parameters: float | None
    pruning_ratio: float | None
    ignored: tuple[str, ...]
    round_to: int
    style: Style

    def __post_init__(self) -> None:
        """Refuses two of them and shares that are none, before anything is loaded."""
        given = {
            "--scheme": self.scheme_name,
            "--flops": self.flops,
            "--parameters": self.parameters,
            "--pruning-ratio": self.pruning_ratio,
        }
        named = [f"{flag} {value}" for flag, value in given.items() if value is not None]
        if len(named) > 1:
            raise click.UsageError(
                f"At most one of {', '.join(given)} must be given, got {' and '.join(named)}."
            )
        if self.scheme_name is not None:
            for flag, value, default in (
                ("--ignore", self.ignored, ()),
                ("--round-to", self.round_to, 1),
                ("--style", self.style, "residual"),
            ):
                if value != default:
                    raise click.UsageError(
                        f"{flag} must go with --flops, --parameters or --pruning-ratio, got it "
                        "with --scheme."
                    )
        Goal(
            flops=self.flops,
            parameters=self.parameters,
            pruning_ratio=self.pruning_ratio,
            round_to=self.round_to,
            style=self.style,
        )

    def goal(self, inputs: Inputs) -> Goal:
        """What is asked for of the teacher.

        Raises:
            ValueError: there is no such scheme, or it does not fit the network.
        """
        if self.scheme_name is not None:
            scheme = find_scheme(self.scheme_name, inputs)
            schemes.check(scheme, inputs.teacher, inputs.example)
            return Goal(scheme)
        names = {name for name, _ in inputs.teacher.named_modules()}
        ignored = [
            _TYPES[each] if each in _TYPES and each not in names else each for each in self.ignored
        ]
        # What fits nothing is refused before any work.
        ignored_layers("compress", ignored, unwrap(inputs.teacher))
        return Goal(
            flops=self.flops,
            parameters=self.parameters,
            pruning_ratio=self.pruning_ratio,
            ignored=ignored,
            round_to=self.round_to,
            style=self.style,
        )
