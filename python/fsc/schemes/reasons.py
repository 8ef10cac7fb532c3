"""Why channels stay and layers are held back, in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from fsc.channels.groups import ChannelGroup
from fsc.schemes.ignoring import Ignored, in_words

GATE = (
    "they are the squeeze of a gate, which costs little and decides much; named in pruning_ratio "
    "or in a scheme they can go"
)
IGNORED = "it is ignored"


def why_whole(group: ChannelGroup) -> str | None:
    """Why the channels of a group stay unless they are named, None where they may go."""
    return GATE if group.is_gate and group.frozen is None else group.frozen


def in_sentences(reasons: Mapping[str, str]) -> dict[str, str]:
    """What stands beside each layer whose channels stay, as a sentence of its own."""
    return {n: f"channels of {n!r} stay, because {reason}" for n, reason in reasons.items()}


def commonest(reasons: Mapping[str, str]) -> str:
    """How often the commonest kind of reason stands, and one example in full.

    Args:
        reasons: name of each layer that is held back -> a sentence that says why.

    Example:
        >>> commonest({"a": "layer 'a' has 2 groups", "b": "layer 'b' has 3 groups", "c": "no"})
        "commonest reason, 2 times: layer 'a' has 2 groups"
    """
    return f"commonest reason, {_by_kind(reasons)[0]}"


def nothing_to_prune(ignored: Ignored, held_back: Mapping[str, str]) -> str:
    """Why there is nothing to prune: every kind of reason, the commonest first.

    Args:
        ignored: what the user wants left alone.
        held_back: name of every layer -> why its channels stay.
    """
    stay = {name: reason for name, reason in held_back.items() if reason != IGNORED}
    return "; ".join(
        [
            "model must have channels that can go and are to go, got none: "
            f"{len(stay)} of {len(held_back)} layers keep all of theirs",
            *_by_kind(in_sentences(stay)),
            *([f"ignored holds {in_words(ignored)}"] if ignored else []),
        ]
    )


def _by_kind(reasons: Mapping[str, str]) -> list[str]:
    """How often each kind of reason stands, with one example in full, the commonest first."""
    kinds = {name: kind_of(reason) for name, reason in reasons.items()}
    found = []
    for kind, count in Counter(kinds.values()).most_common():
        example = next(reason for name, reason in reasons.items() if kinds[name] == kind)
        found.append(f"{'once' if count == 1 else f'{count} times'}: {example}")
    return found


def kind_of(reason: str) -> str:
    """A reason without what differs from layer to layer: names, numbers, and what has them."""
    return re.sub(r"'[^']*'|\d+", "", reason)
