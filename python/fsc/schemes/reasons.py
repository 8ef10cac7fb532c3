"""Why channels stay and layers are held back, in one sentence."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from fsc.channels.groups import ChannelGroup

GATE = (
    "they are the squeeze of a gate, which costs little and decides much; named in pruning_ratio "
    "or in a scheme they can go"
)


def why_whole(group: ChannelGroup) -> str | None:
    """Why the channels of a group stay unless they are named, None where they may go."""
    return GATE if group.is_gate and group.frozen is None else group.frozen


def commonest(reasons: Mapping[str, str]) -> str:
    """How often the commonest kind of reason stands, and one example in full.

    Args:
        reasons: name of each layer that is held back -> a sentence that says why.

    Example:
        >>> commonest({"a": "layer 'a' has 2 groups", "b": "layer 'b' has 3 groups", "c": "no"})
        "commonest reason, 2 times: layer 'a' has 2 groups"
    """
    kinds = {name: _kind(reason) for name, reason in reasons.items()}
    kind, count = Counter(kinds.values()).most_common(1)[0]
    example = next(reason for name, reason in reasons.items() if kinds[name] == kind)
    times = "once" if count == 1 else f"{count} times"
    return f"commonest reason, {times}: {example}"


def _kind(reason: str) -> str:
    """A reason without what differs from layer to layer: names, numbers, and what has them."""
    return re.sub(r"'[^']*'|\d+", "", reason)
