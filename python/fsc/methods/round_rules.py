"""Which cut a round of pruning goes on with, and when it is enough."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fsc.arguments import as_count, as_number
from fsc.scheme_tables import Style
from fsc.schemes.styles import check_style
from fsc.wording import shown


@dataclass(frozen=True)
class Candidate:
    """One student of a round.

    Attributes:
        round: from 1 on.
        pruning_ratio: share of the channels that it lost of the network that the round began with.
        score: in percent.
        flops: its multiply-accumulates for one image.
        parameters: how many it has.
        is_kept: whether the next round began with it.
    """

    round: int
    pruning_ratio: float
    score: float
    flops: int
    parameters: int
    is_kept: bool = False


@dataclass(frozen=True)
class Rules:
    """Which candidate goes on, and when it is enough; see `fsc.prune_iteratively`.

    Attributes:
        pruning_ratios: of each round.
        rounds: how many there are at most.
        flops: share that is enough, or None.
        lowest_score: that is good enough, in percent; None: the highest goes on.
    """

    pruning_ratios: tuple[float, ...]
    rounds: int
    flops: float | None
    lowest_score: float | None

    def best(self, candidates: Sequence[Candidate]) -> Candidate | None:
        """The candidate that the next round begins with; None: none is good enough."""
        if self.lowest_score is None:
            return max(candidates, key=lambda each: (each.score, -each.flops), default=None)
        good = [each for each in candidates if each.score >= self.lowest_score]
        return min(good, key=lambda each: (each.flops, -each.score), default=None)

    def definition(self) -> dict[str, Any]:
        """What two calls must share to be one."""
        return asdict(self) | {"pruning_ratios": list(self.pruning_ratios)}

    def refusal(self, made: Sequence[Candidate]) -> str:
        """Why a first round with these candidates has no student."""
        if not made:
            return (
                "pruning_ratios must remove a channel or more, got "
                f"{list(self.pruning_ratios)}, which remove none"
            )
        best = max(made, key=lambda each: each.score)
        return (
            "lowest_score must be reached by a ratio of the first round, got "
            f"{self.lowest_score:g} where the best, {best.pruning_ratio}, has {best.score:.4g}"
        )


def checked_rules(
    pruning_ratios: object,
    rounds: int,
    flops: float | None,
    lowest_score: float | None,
    style: Style,
) -> Rules:
    """The rules of `fsc.prune_iteratively`, of which the arguments are.

    Raises:
        ValueError: one is out of its range.
        TypeError: one is of the wrong type.
    """
    if isinstance(pruning_ratios, str) or not isinstance(pruning_ratios, Iterable):
        raise TypeError(
            "pruning_ratios must be several shares, such as [0.1, 0.2], "
            f"got {shown(pruning_ratios)}"
        )
    check_style("prune_iteratively", style, has_shares=False)
    found = tuple(as_number("pruning_ratios", ratio) for ratio in pruning_ratios)
    if not found:
        raise ValueError("pruning_ratios must not be empty")
    for ratio in found:
        if not 0 < ratio < 1:
            raise ValueError(f"pruning_ratios must be above 0 and below 1, got {ratio}")
    rounds = as_count("rounds", rounds)
    flops = None if flops is None else as_number("flops", flops)
    lowest_score = None if lowest_score is None else as_number("lowest_score", lowest_score)
    if flops is not None and not 0 < flops < 1:
        raise ValueError(f"flops must be above 0 and below 1, got {flops}")
    if lowest_score is not None and not 1 < lowest_score <= 100:
        # A share would let every network pass.
        raise ValueError(
            f"lowest_score must be in percent, above 1 and at most 100, got {lowest_score}"
        )
    return Rules(found, rounds, flops, lowest_score)
