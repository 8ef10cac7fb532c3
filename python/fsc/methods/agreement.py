"""Whether all processes of a group were given the same call, before one waits for another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from fsc import ranks
from fsc.methods.identity import as_json


def check_ranks(function: str, images: Tensor, identity: Callable[[], dict[str, Any]]) -> None:
    """Make sure that the work of a call can be shared; without a process group it always can.

    Args:
        function: who asks, for the sentence.
        images: [N, ...], the same on every rank, which takes its share of them.
        identity: what two runs must share to be the same.

    Raises:
        ValueError: a rank was given something else, or there are fewer images than ranks.
    """
    if ranks.count() == 1:
        return
    found = [dict(each) for each in ranks.everyone(as_json(identity()))]
    for rank, each in enumerate(found):
        # How it is computed may differ, what is computed may not.
        others = {name for name in each | found[0] if each.get(name) != found[0].get(name)}
        others -= {"device", "threads"}
        if others:
            raise ValueError(
                f"{function}: {min(others)} must be the same on every rank, of which each takes "
                f"its share by itself, got others on rank {rank} than on rank 0"
            )
    check_shares(function, images)


def check_shares(function: str, images: Tensor, which: str = "the images") -> None:
    """Make sure that every rank has a share of images.

    Args:
        function: who asks, for the sentence.
        images: [N, ...].
        which: these are, in words.

    Raises:
        ValueError: there are fewer than ranks.
    """
    if len(images) < ranks.count():
        raise ValueError(
            f"{function}: ranks must be at most as many as {which}, {len(images)}, got "
            f"{ranks.count()}"
        )
