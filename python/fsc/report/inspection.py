"""What of a network can go, what goes together, what stays and why, before anything is cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from fsc.arguments import check_module
from fsc.channels.groups import ChannelGroup
from fsc.channels.proof import channel_groups
from fsc.networks import cost
from fsc.networks.entry import Entry, enter
from fsc.networks.gathering import Images
from fsc.networks.joint_input import joint_of
from fsc.networks.modes import outside_inference
from fsc.networks.operations import CONVOLUTION
from fsc.networks.plain import Rewriting, rewritings
from fsc.report.names import in_columns, in_lines
from fsc.schemes.reasons import why_whole
from fsc.schemes.staying import apart

# Of the table, where nothing says how wide a window is.
WIDTH = 80


@dataclass(frozen=True)
class Inspection:
    """What was found; printed, it is a table.

    Attributes:
        groups: sets of channels, each of which goes or stays in all layers at once.
        depthwise: convolutions that make no channels of their own; each loses those of its set.
        apart: name of each layer that is in no set -> why.
        inputs: [C, H, W] of every input of the image that the network ran on.
        size: what the network costs for such an image.
        rewritten: what was rewritten in layers of torch.nn before, and what was left and why.
    """

    groups: list[ChannelGroup]
    depthwise: tuple[str, ...]
    apart: dict[str, str]
    inputs: list[tuple[int, ...]]
    size: cost.Size
    rewritten: list[Rewriting]

    @property
    def left(self) -> dict[str, str]:
        """Name of each layer whose channels stay by default -> why, as in the report."""
        found = {name: reason for names, reason in self._whole() for name in names}
        return dict(sorted(found.items()))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, dicts, strings and numbers."""
        return {
            "parameters": self.size.parameters,
            "flops": self.size.flops,
            "groups": [
                {
                    "name": group.name,
                    "channels": int(group.rows_per_channel.sum()),
                    "can_go": _free(group),
                    "writers": group.named("writer"),
                    "depthwise": self._depthwise_of(group),
                    "readers": group.named("reader"),
                    "carriers": group.named("carrier"),
                    "stays_because": why_whole(group) or group.held,
                }
                for group in self.groups
            ],
            "apart": self.apart,
            "rewritten": [vars(each) for each in self.rewritten],
        }

    def __str__(self) -> str:
        """The table, in 80 columns where the names of layers allow it."""
        return self.table()

    def table(self, width: int = WIDTH) -> str:
        """Every set that can go with all of its layers, then what stays and why.

        Args:
            width: of the window.
        """
        going = [group for group in self.groups if why_whole(group) is None]
        sets = "1 set," if len(going) == 1 else f"{len(going)} sets, each"
        lines = [
            f"{self.size.parameters:,} parameters, "
            f"{self.size.flops:,} multiply-accumulates for "
            f"{' and '.join('x'.join(map(str, shape)) for shape in self.inputs)}",
            f"{sum(map(_free, going)):,} of "
            f"{sum(int(group.rows_per_channel.sum()) for group in self.groups):,} channels can go"
            + (f", in {sets} in all its layers:" if going else ""),
        ]
        if going:
            headings = ["can go", "made by", "depthwise", "read by"]
            lines += ["", *in_columns(headings, list(map(self._row, going)), width)]
        listed = (
            ("Keep some of their channels", self._held(going)),
            ("Keep all of their channels", self._whole()),
        )
        for title, found in listed:
            if found:
                lines += ["", f"{title}, {len(found)}:"]
                lines += [line for names, why in found for line in in_lines(names, why, width)]
        return "\n".join(lines)

    def _row(self, group: ChannelGroup) -> tuple[str, list[list[str]]]:
        free, count = _free(group), int(group.rows_per_channel.sum())
        number = str(free) if free == count else f"{free} of {count}"
        layers = (group.named("writer"), self._depthwise_of(group), group.named("reader"))
        return number, [list(dict.fromkeys(names)) for names in layers]

    def _depthwise_of(self, group: ChannelGroup) -> list[str]:
        return [name for name in group.named("carrier") if name in self.depthwise]

    def _layers(self, group: ChannelGroup) -> list[str]:
        """Those that make or filter the channels of a group."""
        return list(dict.fromkeys(group.named("writer") + self._depthwise_of(group)))

    def _held(self, going: list[ChannelGroup]) -> list[tuple[list[str], str]]:
        found = []
        for group in going:
            if group.held is not None:
                count = int(group.rows_per_channel.sum())
                staying = count - _free(group)
                why = f"{staying} of the {count} channels of its set, because {group.held}"
                found.append(([group.name], why))
        return found

    def _whole(self) -> list[tuple[list[str], str]]:
        sets = [
            (self._layers(group), reason)
            for group in self.groups
            if (reason := why_whole(group)) is not None
        ]
        return sets + [([name], reason) for name, reason in self.apart.items()]


def _free(group: ChannelGroup) -> int:
    """How many channels of layers may go: of a grouped convolution several go at once."""
    return int(group.rows_per_channel[group.free].sum())


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
    check_module("model", model)
    with outside_inference():
        return _found(enter("inspect", model, images, num_images=1))


def _found(entry: Entry) -> Inspection:
    network, image = entry.teacher, entry.images  # [1, C, ...]
    joint = joint_of(network)
    shapes = [image.shape[1:]] if joint is None else [place.shape for place in joint.places]
    groups = channel_groups(network, image)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, CONVOLUTION | nn.Linear)}
    carried = {name for group in groups for name in group.named("carrier")}
    return Inspection(
        groups,
        tuple(name for name in layers if name in carried),
        apart(network, groups),
        [tuple(shape) for shape in shapes],
        cost.size(network, image),
        rewritings(network),
    )
