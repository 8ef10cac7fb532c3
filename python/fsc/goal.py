"""What a user asks for: a scheme, or a share of the cost or of the channels."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from fsc import schemes
from fsc.arguments import as_integer, as_number
from fsc.channels.groups import ChannelGroup
from fsc.channels.proof import channel_groups, faults_of_cut, left_whole
from fsc.methods.l1_norm import largest_channels
from fsc.progress import Progress
from fsc.scheme_tables import Style
from fsc.schemes import AnyScheme
from fsc.schemes.ignoring import Ignored, check_list_of_ignored, ignored_layers
from fsc.schemes.removal import Removal
from fsc.schemes.structured import as_ratio, structured_of
from fsc.schemes.styles import check_style
from fsc.schemes.targets import Target, to_target
from fsc.solvers.closed_form import Selection
from fsc.wording import shown

HALF = 0.5


@dataclass(frozen=True)
class Plan:
    """A goal for one network.

    Attributes:
        scheme: what stays.
        groups: the network's channels as they go together; none for schemes that keep them all.
        removal: what removing channels costs, where it was measured.
        doubts: what to tell before the work: what stays is not quite what was asked for.
    """

    scheme: AnyScheme
    groups: list[ChannelGroup] = field(default_factory=list)
    removal: Mapping[str, Removal] = field(default_factory=dict)
    doubts: Sequence[str] = ()


@dataclass(frozen=True)
class Goal:
    """What is asked for; the arguments of `fsc.compress`.

    Raises:
        ValueError: two of them, a share out of its range, or an argument that does not go with a
            scheme.
        TypeError: an argument is of the wrong type.
    """

    scheme: AnyScheme | str | os.PathLike[str] | None = None
    flops: float | None = None
    parameters: float | None = None
    pruning_ratio: float | Mapping[str, float] | None = None
    ignored: Ignored = ()
    round_to: int = 1
    style: Style = "residual"

    def __post_init__(self) -> None:
        """Refuses what contradicts itself, before any work is done."""
        names = ("scheme", "flops", "parameters", "pruning_ratio")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if len(given) > 1:
            told = " and ".join(
                name if name == "scheme" else f"{name}={value}" for name, value in given.items()
            )
            raise ValueError(f"at most one of {', '.join(names)} must be given, got {told}")
        check_list_of_ignored("compress", self.ignored)
        if "scheme" in given:
            self._check_scheme()
        for name in ("flops", "parameters"):
            if name in given:
                object.__setattr__(self, name, as_number(name, given[name]))
        object.__setattr__(self, "round_to", as_integer("round_to", self.round_to))
        if self.pruning_ratio is not None:
            shares = as_ratio("compress", self.pruning_ratio, self.style)
            object.__setattr__(self, "pruning_ratio", shares)
        check_style("compress", self.style, has_shares=False)
        self.target()

    def _check_scheme(self) -> None:
        if not isinstance(self.scheme, AnyScheme | str | os.PathLike):
            raise TypeError(
                "scheme must be one of fsc.schemes, e.g. structured(model, 0.5, images[:1]), the "
                "name of a published one, e.g. 'res-50', or the path of a JSON file, got "
                f"{shown(self.scheme)}"
            )
        given = {
            "ignored": bool(self.ignored),
            "round_to": self.round_to != 1,
            "style": self.style != "residual",
        }
        for name, is_given in given.items():
            if is_given:
                raise ValueError(
                    f"{name} must go with flops, parameters or pruning_ratio, got it with a scheme"
                )

    def target(self) -> Target | None:
        """The share of the cost that is to stay; half of the multiply-accumulates by default.

        Raises:
            ValueError: it is out of its range.
        """
        if self.scheme is not None or self.pruning_ratio is not None:
            return None
        if self.parameters is not None:
            return Target("parameters", float(self.parameters), self.round_to)
        return Target("flops", HALF if self.flops is None else float(self.flops), self.round_to)

    def plan(
        self,
        given: nn.Module,
        teacher: nn.Module,
        images: Tensor,
        batch_size: int = 64,
        progress: Progress | None = None,
        selection: Selection = "obs",
    ) -> Plan:
        """What it comes to for a network.

        Args:
            given: the network as the user has it, for the types of layers that are ignored.
            teacher: the same in plain modules.
            images: normalised images [N, C, H, W].
            batch_size: images that go through the network at once.
            progress: told of the work.
            selection: how the method will choose channels, see `to_target`.

        Raises:
            ValueError: it does not fit the network.
        """
        example = images[:1]
        if self.scheme is not None:
            assert isinstance(self.scheme, AnyScheme)
            return _plan_of(self.scheme, given, teacher, example)
        left_alone = ignored_layers("compress", self.ignored, given, teacher)
        groups = channel_groups(teacher, example)

        rest = (teacher, images, left_alone, batch_size, progress, selection)
        plan = self._plan_with(groups, *rest)
        while faults := _faults(plan, teacher, example):
            plan = self._plan_with(left_whole(plan.groups, faults), *rest)
        return plan

    def _plan_with(
        self,
        groups: list[ChannelGroup],
        teacher: nn.Module,
        images: Tensor,
        left_alone: Collection[str],
        batch_size: int,
        progress: Progress | None,
        selection: Selection,
    ) -> Plan:
        target = self.target()
        asked: Any = {"ignored": self.ignored, "style": self.style}
        if target is None:
            assert self.pruning_ratio is not None
            asked["round_to"] = self.round_to
            scheme = structured_of(
                "compress", teacher, groups, self.pruning_ratio, left_alone, **asked
            )
            schemes.channels_left(scheme, teacher, groups)
            return Plan(scheme, groups)
        asked |= {"selection": selection, "batch_size": batch_size, "progress": progress}
        scheme, removal, doubt = to_target(teacher, images, target, groups, left_alone, **asked)
        return Plan(scheme, groups, removal, [] if doubt is None else [doubt])

    def resolved(self, teacher: nn.Module, images: Tensor) -> Goal:
        """The same with the scheme itself in the place of its name or file.

        Raises:
            ValueError: there is no such scheme, or it is for other networks.
            FileNotFoundError: there is no such file.
        """
        if not isinstance(self.scheme, str | os.PathLike):
            return self
        return replace(self, scheme=schemes.find(self.scheme, teacher, images[:1]))

    @property
    def is_data_free(self) -> bool:
        """Whether what stays follows from the network alone, whatever the images."""
        if isinstance(self.scheme, schemes.DropBlocks):
            return self.scheme.blocks is not None
        return self.target() is None

    @property
    def name(self) -> str:
        """What reports call it; `resolved` comes before."""
        if isinstance(self.scheme, AnyScheme):
            return self.scheme.name
        target = self.target()
        if target is not None:
            return target.name
        ratio = self.pruning_ratio
        return "structured" if isinstance(ratio, Mapping) else f"structured-{100 * (ratio or 0):g}"

    @property
    def given(self) -> str:
        """What is asked for as an argument of `compress`: "flops=0.6", 'res-50', "no scheme"."""
        if isinstance(self.scheme, AnyScheme):
            return repr(self.scheme.name)
        for name in ("flops", "parameters", "pruning_ratio"):
            if getattr(self, name) is not None:
                return f"{name}={getattr(self, name)}"
        return "no scheme"

    @property
    def in_words(self) -> str:
        """What is asked for, to follow the name of a method."""
        target = self.target()
        where = " inside blocks" if self.style == "normal" else ""
        if target is not None:
            what = "multiply-accumulates" if target.kind == "flops" else "parameters"
            return f"down to {100 * target.share:g} % of the {what}{where}"
        return f"scheme {self.name}{where}"

    def definition(self) -> dict[str, Any]:
        """What two goals must share to be one, as JSON holds it; `resolved` comes before."""
        if isinstance(self.scheme, AnyScheme):
            return asdict(self.scheme)
        target = self.target()
        asked: dict[str, Any] = {"pruning_ratio": self.pruning_ratio}
        if target is not None:
            asked = {str(target.kind): target.share}
        return {
            **asked,
            "ignored": sorted(map(str, self.ignored)),
            "round_to": self.round_to,
            "style": self.style,
        }


def _plan_of(scheme: AnyScheme, given: nn.Module, teacher: nn.Module, example: Tensor) -> Plan:
    """What a scheme comes to; channels are grouped where it removes some."""
    scheme = schemes.in_plain_names(scheme, teacher)
    if isinstance(scheme, schemes.Decoupling):
        return Plan(schemes.named_layers(scheme, given, teacher))
    if not isinstance(scheme, schemes.Scheme) or not scheme.kept:
        schemes.check(scheme, teacher, example)
        return Plan(scheme)
    groups = channel_groups(teacher, example)
    schemes.channels_left(scheme, teacher, groups)
    plan = Plan(scheme, schemes.by_scale(scheme, teacher, groups))
    for name, fault in _faults(plan, teacher, example).items():
        raise ValueError(f"scheme {scheme.name!r}: channels of {name!r} must stay: {fault}")
    return plan


def _faults(plan: Plan, teacher: nn.Module, example: Tensor) -> dict[str, str]:
    """The groups that a plan cannot cut -> why, tried with the channels of the largest filters.

    A method may choose others, and is asked afterwards; what a cut changes is in most networks how
    many of them go, and is said before the work here.
    """
    assert isinstance(plan.scheme, schemes.Scheme)
    counts = schemes.channels_left(plan.scheme, teacher, plan.groups)
    return faults_of_cut(
        teacher, plan.groups, largest_channels(teacher, plan.groups, counts), example
    )
