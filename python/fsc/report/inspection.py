"""What of a network can go, what goes together, what stays and why, before anything is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from fsc.channels.groups import ChannelGroup
from fsc.channels.proof import channel_groups
from fsc.images.gathering import Images
from fsc.networks import cost
from fsc.networks.plain import Rewriting, rewritings
from fsc.networks.prepared import prepared

GATE = "they are the squeeze of a gate, which stays unless it is named"


@dataclass(frozen=True)
class Inspection:
    """What was found; printed, it is a table.

    Attributes:
        groups: sets of channels, each of which goes or stays in all layers at once.
        image: [C, H, W] of the image that the network ran on.
        size: what the network costs for such an image.
        rewritten: what was rewritten in layers of torch.nn before, and what was left and why.
    """

    groups: list[ChannelGroup]
    image: tuple[int, ...]
    size: cost.Size
    rewritten: list[Rewriting]

    @property
    def left(self) -> dict[str, str]:
        """Name of each layer whose channels stay by default -> why."""
        return {
            layer: reason
            for group in self.groups
            if (reason := _reason(group)) is not None
            for layer in group.named("writer")
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, dicts, strings and numbers."""
        return {
            "parameters": self.size.parameters,
            "flops": self.size.flops,
            "groups": [
                {
                    "name": group.name,
                    "channels": group.size,
                    "can_go": int(group.free.sum()),
                    "writers": group.named("writer"),
                    "readers": group.named("reader"),
                    "carriers": group.named("carrier"),
                    "stays_because": _reason(group),
                }
                for group in self.groups
            ],
            "rewritten": [vars(each) for each in self.rewritten],
        }

    def __str__(self) -> str:
        """A table of what can go, then what stays and why."""
        going = [group for group in self.groups if _reason(group) is None]
        lines = [
            f"{self.size.parameters:,} parameters, "
            f"{self.size.flops:,} multiply-accumulates for "
            f"{'x'.join(map(str, self.image))}",
            f"{sum(int(group.free.sum()) for group in going):,} of "
            f"{sum(group.size for group in self.groups):,} channels can go, in {len(going)} sets, "
            "each in all its layers:",
            "",
            *_columns(["channels", "can go", "written by", "read by"], map(_row, going)),
        ]
        staying = [group for group in self.groups if _reason(group) is not None]
        if staying:
            lines += ["", f"Stay whole, {len(staying)}:"]
            lines += [f"  {_listed(g.named('writer'))}: {_reason(g)}" for g in staying]
        return "\n".join(lines)


def inspect(model: nn.Module, images: Images) -> Inspection:
    """Find which channels of a network can be cut, which go together, what stays and why.

    Nothing is cut and nothing is learned; the network runs on one image.

    Args:
        model: as for `fsc.compress`.
        images: as for `fsc.compress`; the first one is enough, and no more are read.

    Raises:
        ValueError: the images do not fit the network, or it cannot be traced.
        TypeError: an argument is of the wrong type.

    Example:
        >>> import torch
        >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))
        >>> found = inspect(network, torch.zeros(1, 3, 8, 8))
        >>> [(group.name, group.size, group.frozen) for group in found.groups]
        [('0', 4, None), ('2', 2, 'they reach the output of the network')]
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    ready = prepared("inspect", model, images, num_images=1)
    network, image = ready.network, ready.images  # [1, C, H, W]
    groups = channel_groups(network, image)
    return Inspection(
        groups, tuple(image.shape[1:]), cost.size(network, image), rewritings(network)
    )


def _reason(group: ChannelGroup) -> str | None:
    return GATE if group.is_gate and group.frozen is None else group.frozen


def _row(group: ChannelGroup) -> list[str]:
    return [
        str(group.size),
        str(int(group.free.sum())),
        _listed(group.named("writer")),
        _listed(group.named("reader")),
    ]


def _listed(names: list[str]) -> str:
    """The first name, and how many more there are."""
    names = list(dict.fromkeys(names))
    if not names:
        return "nothing"
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _columns(headings: list[str], rows: Any) -> list[str]:
    """Rows of text in columns, numbers to the right."""
    table = [headings, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(headings))]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if column < 2 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in table
    ]
