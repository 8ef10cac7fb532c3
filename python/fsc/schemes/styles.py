"""Which channels go: those inside blocks, or also those that run through a stage.

Figure 1 of MiR (Wang et al. 2022) draws three styles. Its third, of cross distillation, is "normal"
in the layers that its authors picked: what they spared is to be ignored.
"""

from __future__ import annotations

from typing import Literal, get_args

from fsc.channels.groups import ChannelGroup

Style = Literal["normal", "residual"]


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
            f"{function}: style must be one of {', '.join(get_args(Style))}, got {style!r}"
        )
    if has_shares and style != "residual":
        raise ValueError(
            f"{function}: style must go with one pruning_ratio for all layers, got {style!r} with "
            "layers that are named"
        )


def takes(style: Style, group: ChannelGroup) -> bool:
    """Whether a style prunes a group of channels.

    Channels that one layer alone makes are inside a block, or between the layers of a plain
    chain; those that several layers add up to, or share otherwise, run past blocks.
    """
    return style == "residual" or len(set(group.named("writer"))) == 1
