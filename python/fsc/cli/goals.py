"""What is to be left of a network, from what is typed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import click
from torch import nn

from fsc import method_names, schemes
from fsc.cli.given import Inputs
from fsc.cli.inputs import find_scheme
from fsc.cli.sentences import as_typed
from fsc.goal import Goal
from fsc.methods.base import check_fits
from fsc.methods.whole_layers import takes
from fsc.networks.entry import taken_in
from fsc.networks.plain import plain
from fsc.networks.wrappers import unwrap
from fsc.scheme_tables import Style
from fsc.schemes.decoupling import MIXED
from fsc.schemes.ignoring import ignored_layers

# Flags of which one says what is to be left, and what they are called below.
_GOALS = {
    "--scheme": "scheme_name",
    "--flops": "flops",
    "--parameters": "parameters",
    "--pruning-ratio": "pruning_ratio",
    "--drop-blocks": "drop_blocks",
    "--decouple": "decouple",
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
        decouple: how many terms decoupled layers have, as it is typed.
        ignored: names, patterns and types of layers that keep all channels that they make, or are
            not decoupled.
        round_to: layers keep a multiple of so many channels.
        style: which channels are pruned, all or those inside blocks.
    """

    scheme_name: str | None = None
    flops: float | None = None
    parameters: float | None = None
    pruning_ratio: float | None = None
    drop_blocks: int | None = None
    decouple: str | None = None
    ignored: tuple[str, ...] = ()
    round_to: int = 1
    style: Style = "residual"

    def __post_init__(self) -> None:
        """Refuses two of them and shares that are none, before anything is loaded."""
        named = self._typed()
        if len(named) > 1:
            raise click.UsageError(
                f"At most one of {', '.join(_GOALS)} must be given, got {' and '.join(named)}."
            )
        kinds = (self.scheme_name, self.drop_blocks, self.decouple)
        if any(kind is not None for kind in kinds):
            self._check_alone(named[0])
        Goal(
            flops=self.flops,
            parameters=self.parameters,
            pruning_ratio=self.pruning_ratio,
            round_to=self.round_to,
            style=self.style,
        )

    def _typed(self) -> list[str]:
        """What says what is to be left, as it was typed."""
        return as_typed({flag: getattr(self, name) for flag, name in _GOALS.items()})

    def _check_alone(self, chosen: str) -> None:
        """Refuses what says more of a share, beside what is none."""
        shares = "--flops, --parameters or --pruning-ratio"
        ignoring = "--flops, --parameters, --pruning-ratio or --decouple"
        for flag, value, is_given, fitting in (
            ("--ignore", self.ignored, bool(self.ignored) and self.decouple is None, ignoring),
            ("--round-to", self.round_to, self.round_to != 1, shares),
            ("--style", self.style, self.style != "residual", shares),
        ):
            if is_given:
                got = " ".join(as_typed({flag: value}))
                raise click.UsageError(f"{flag} must go with {fitting}, got {got} with {chosen}.")

    def check_methods(self, methods: Sequence[str]) -> None:
        """Make sure, before anything is loaded, that all methods take other blocks and layers.

        Raises:
            ValueError: blocks are to go, or layers to be decoupled, and one cannot, or one that
                removes single weights is asked for something else than a scheme.
        """
        if method_names.WEIGHTS_ALONE in methods and self.scheme_name is None:
            raise ValueError(
                f"--scheme must remove single weights for --method {method_names.WEIGHTS_ALONE}, "
                f"as sparse-90 does, got {next(iter(self._typed()), 'none')}"
            )
        for flag, value, kind in (
            ("--drop-blocks", self.drop_blocks, schemes.DropBlocks),
            ("--decouple", self.decouple, schemes.Decoupling),
        ):
            if value is None:
                continue
            takers = [n for n in method_names.NAMES if takes(method_names.named(n), kind)]
            others = [name for name in methods if name not in takers]
            if others:
                raise ValueError(
                    f"{flag} must go with --method {', '.join(takers)}, got {value} for "
                    f"{', '.join(others)}"
                )

    def goal(self, inputs: Inputs) -> Goal:
        """What is asked for of the teacher.

        Raises:
            ValueError: there is no such scheme, or it does not fit the network.
        """
        if self.scheme_name is not None:
            return of_scheme(self.scheme_name, inputs)
        if self.drop_blocks is not None:
            dropping = schemes.DropBlocks(count=self.drop_blocks)
            return _fitting("--drop-blocks", self.drop_blocks, dropping, inputs)
        names = {name for name, _ in inputs.teacher.named_modules()}
        ignored = [
            _TYPES[each] if each in _TYPES and each not in names else each for each in self.ignored
        ]
        if ignored:  # what fits nothing is refused before any work
            model, example, _ = taken_in("compress", inputs.teacher, inputs.example)
            ignored_layers("compress", ignored, unwrap(inputs.teacher), plain(model, example))
        if self.decouple is not None:
            mixed = self.decouple == MIXED
            decoupling = schemes.Decoupling(MIXED if mixed else int(self.decouple), ignored)
            return _fitting("--decouple", self.decouple, decoupling, inputs)
        return Goal(
            flops=self.flops,
            parameters=self.parameters,
            pruning_ratio=self.pruning_ratio,
            ignored=ignored,
            round_to=self.round_to,
            style=self.style,
        )


def of_scheme(name: str, inputs: Inputs) -> Goal:
    """What the scheme of a name or file leaves of the teacher.

    Raises:
        ValueError: there is no such scheme, or it does not fit the network.
    """
    scheme = find_scheme(name, inputs)
    schemes.check(scheme, inputs.teacher, inputs.example)
    return Goal(scheme)


def _fitting(flag: str, value: object, scheme: schemes.AnyScheme, inputs: Inputs) -> Goal:
    """A scheme as a goal.

    Raises:
        ValueError: it does not fit the teacher.
    """
    try:
        schemes.check(scheme, inputs.teacher, inputs.example)
    except ValueError as error:
        raise ValueError(f"{flag} must fit {inputs.model_title}, got {value}: {error}") from error
    return Goal(scheme)


def check_kinds(methods: Sequence[str], goal: Goal) -> None:
    """Make sure, before any student is made, that all methods take what is asked for.

    Raises:
        ValueError: one does not; the sentence names it.
    """
    for name in methods:
        check_fits(method_names.named(name), goal.scheme, goal.given, f"--method {name}")
