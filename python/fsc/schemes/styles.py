"""Which channels go: those inside blocks, or also those that run through a stage.

Figure 1 of MiR (Wang et al. 2022) draws three styles. Its third, of cross distillation, is "normal"
in the layers that its authors picked: what they spared is to be ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from fsc.channels.groups import ChannelGroup
from fsc.scheme_tables import Style
from fsc.wording import shown


def check_style(function: str, style: str, has_shares: bool) -> None:
    """Make sure that a style is one, and that it has something to say.

    Args:
        function: who asks, for the sentence.
        style: what was given.
        has_shares: whether layers with shares of their own were named.

    Raises:
        ValueError: it is none, or chooses among layers that are named already.
    """
    if style not in get_args(Style):
        raise ValueError(
            f"{function}: style must be one of {', '.join(get_args(Style))}, got {shown(style)}"
        )
    if has_shares and style != "residual":
        raise ValueError(
            f"{function}: style must go with one pruning_ratio for all layers, "
            f"got {shown(style)} with layers that are named"
        )


def pruned(function: str, style: Style, groups: Sequence[ChannelGroup]) -> list[ChannelGroup]:
    """The groups that a style prunes, of those whose channels can go.

    Channels that one layer alone makes are inside a block, or between the layers of a plain
    chain; those that several layers add up to, or share otherwise, run past blocks. The squeeze of
    a gate costs little, decides much, and stays whole.

    Args:
        function: who asks, for the sentence.
        style: how.
        groups: of a network.

    Raises:
        ValueError: there are channels that can go, but none that the style prunes.
    """
    able = [group for group in groups if group.frozen is None and not group.is_gate]
    found = [group for group in able if is_pruned(style, group)]
    if able and not found:
        raise ValueError(
            f"{function}: style must leave channels to prune, got {shown(style)}, and all that can "
            "go are made by several layers together"
        )
    return found


def is_pruned(style: Style, group: ChannelGroup) -> bool:
    """Whether a style prunes a group whose channels can go."""
    return style == "residual" or len(set(group.named("writer"))) == 1
