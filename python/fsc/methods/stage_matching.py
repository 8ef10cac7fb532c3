"""Stages of two networks that stand for each other: what they end in has maps of one size."""

from __future__ import annotations

from torch import fx

from fsc.methods.block_layers import ending_layers, longest
from fsc.networks.observed import Observed


def stages(teacher: Observed, student: Observed, left: dict[str, str]) -> dict[str, str]:
    """The student's last layer of maps of every size, each with the teacher's.

    Args:
        teacher: with BatchNorm folded.
        student: the same for the student.
        left: is told of layers of the student that have no partner, and why.
    """
    others = _last_layers(teacher)
    found = {}
    for size, name in _last_layers(student).items():
        if size in others:
            found[name] = others[size]
        else:
            left[name] = f"no layer of the teacher gives maps of {list(size)}"
    return found


def stage_end(network: Observed, name: str) -> fx.Node:
    """What a stage gives whose last layer this is: the sum that it goes into, if there is one.

    A layer alone is compared with the other network's sum, too: what a branch is to give depends on
    its shortcut.
    """
    return network.addition(name) or network.nodes[name]


def _last_layers(network: Observed) -> dict[tuple[int, ...], str]:
    """Size of maps, without channels -> the last layer that mixes channels and gives such maps."""
    names = ending_layers(network, "convolutions")
    # What a shortcut does is no end where a longer branch is added to it.
    ends = longest(network, names)
    names = [n for n in names if network.addition(n) is None or n in ends]
    return {tuple(network.pixels(n)[1]): n for n in names}
