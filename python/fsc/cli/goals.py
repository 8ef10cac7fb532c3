"""What is to be left of a network, from what is typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click
from torch import nn

from fsc import method_names, schemes
from fsc.cli.given import Inputs
from fsc.cli.inputs import find_scheme
from fsc.goal import Goal
from fsc.methods.base import check_removes_weights
from fsc.methods.block_choice import takes_blocks
from fsc.networks.wrappers import unwrap
from fsc.scheme_tables import Style
from fsc.schemes.ignoring import ignored_layers

# Flags of which one says what is to be left, and what they are called below.
_GOALS = {
    "--scheme": "scheme_name",
    "--flops": "flops",
    "--parameters": "parameters",
    "--pruning-ratio": "pruning_ratio",
    "--drop-blocks": "drop_blocks",
}
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
        drop_blocks: how many residual blocks go.
        ignored: names, patterns and types of layers that stay whole.
        round_to: layers keep a multiple of so many channels.
        style: which channels are pruned, all or those inside blocks.
    """

    scheme_name: str | None
    flops: float | None
    parameters: float | None
    pruning_ratio: float | None
    drop_blocks: int | None
    ignored: tuple[str, ...]
    round_to: int
    style: Style

    def __post_init__(self) -> None:
        """Refuses two of them and shares that are none, before anything is loaded."""
        named = self._typed()
        if len(named) > 1:
            raise click.UsageError(
                f"At most one of {', '.join(_GOALS)} must be given, got {' and '.join(named)}."
            )
        if self.scheme_name is not None or self.drop_blocks is not None:
            for flag, value, default in (
                ("--ignore", self.ignored, ()),
                ("--round-to", self.round_to, 1),
                ("--style", self.style, "residual"),
            ):
                if value != default:
                    raise click.UsageError(
                        f"{flag} must go with --flops, --parameters or --pruning-ratio, got it "
                        f"with {named[0].partition(' ')[0]}."
                    )
        Goal(
            flops=self.flops,
            parameters=self.parameters,
            pruning_ratio=self.pruning_ratio,
            round_to=self.round_to,
            style=self.style,
        )

    def _typed(self) -> list[str]:
        """What says what is to be left, as it was typed."""
        values = {flag: getattr(self, name) for flag, name in _GOALS.items()}
        return [f"{flag} {value}" for flag, value in values.items() if value is not None]

    def check_methods(self, methods: Sequence[str]) -> None:
        """Make sure, before anything is loaded, that all methods can do what is asked.

        Raises:
            ValueError: blocks are to go, and one cannot do without, or one that removes single
                weights is asked for something else than a scheme.
        """
        if method_names.WEIGHTS_ALONE in methods and self.scheme_name is None:
            raise ValueError(
                f"--scheme must remove single weights for --method {method_names.WEIGHTS_ALONE}, "
                f"as sparse-90 does, got {next(iter(self._typed()), 'none')}"
            )
        takers = [n for n in method_names.NAMES if takes_blocks(method_names.named(n))]
        others = [name for name in methods if name not in takers]
        if self.drop_blocks is not None and others:
            raise ValueError(
                f"--drop-blocks must go with --method {', '.join(takers)}, got "
                f"{self.drop_blocks} for {', '.join(others)}"
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
        if self.drop_blocks is not None:
            return Goal(self._dropping(inputs))
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

    def _dropping(self, inputs: Inputs) -> schemes.DropBlocks:
        scheme = schemes.DropBlocks(count=self.drop_blocks)
        try:
            schemes.check(scheme, inputs.teacher, inputs.example)
        except ValueError as error:
            raise ValueError(
                f"--drop-blocks must fit {inputs.model_title}, got {self.drop_blocks}: {error}"
            ) from error
        return scheme


def check_kinds(methods: Sequence[str], goal: Goal) -> None:
    """Make sure, before any student is made, that methods for single weights are asked for some.

    Raises:
        ValueError: one is asked for something else.
    """
    for name in methods:
        check_removes_weights(method_names.named(name), goal.scheme, goal.given)
