"""What the forward of a network takes, and images given by place or by name to go with it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from fsc.arguments import check_tensor
from fsc.images.joint import Inputs

_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


@dataclass(frozen=True)
class Forward:
    """The parameters of a forward.

    Attributes:
        kind: name of the network's class.
        by_place: those that may be given by place.
        by_name: those that may be given by name.
        required: those without a default.
        most: how many may be given by place.
        any_name: whether it takes any name.
    """

    kind: str
    by_place: tuple[str, ...]
    by_name: tuple[str, ...]
    required: tuple[str, ...]
    most: float
    any_name: bool

    @classmethod
    def of(cls, model: nn.Module) -> Forward:
        """Read the signature of a network's forward."""
        found = inspect.signature(model.forward).parameters.values()
        kinds = {p.kind for p in found}
        by_place = tuple(p.name for p in found if p.kind in _BY_PLACE)
        variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        single = [p for p in found if p.kind not in variable]
        return cls(
            type(model).__name__,
            by_place,
            tuple(p.name for p in single if p.kind is not inspect.Parameter.POSITIONAL_ONLY),
            tuple(p.name for p in single if p.default is inspect.Parameter.empty),
            math.inf if inspect.Parameter.VAR_POSITIONAL in kinds else len(by_place),
            inspect.Parameter.VAR_KEYWORD in kinds,
        )

    @property
    def takes_one(self) -> bool:
        """Whether it takes one argument and no other."""
        return self.most == 1 and len(self.by_name) <= 1 and not self.any_name

    def __str__(self) -> str:
        """The sentence's words for it."""
        return f"forward of {self.kind}, ({', '.join(dict.fromkeys(self.by_place + self.by_name))})"


def by_place(function: str, given: tuple[Any, ...], forward: Forward) -> tuple[Any, ...]:
    """Tensors as the arguments of a forward, in their order.

    Raises:
        TypeError: one of them is no tensor.
        ValueError: they are too few or too many.
    """
    least = len([name for name in forward.required if name in forward.by_place])
    if not max(least, 1) <= len(given) <= forward.most:
        raise ValueError(
            f"{function}: images must be a tuple of one tensor for each argument of {forward}, "
            f"got {len(given)}; a list is one of images"
        )
    for index, value in enumerate(given):
        _check_tensor(function, f"input {index}", value)
    return given


def by_name(function: str, given: Mapping[str, Any], forward: Forward, *, drops: bool) -> Inputs:
    """Tensors with names as the arguments of a forward, or as the one dict that it takes.

    Args:
        function: who asks, for the sentence.
        given: the tensors.
        forward: what takes them.
        drops: whether what it does not take, such as labels, is left out.

    Raises:
        TypeError: a value is no tensor.
        ValueError: names are missing or, where nothing is to be dropped, unknown.
    """
    taken = {k: v for k, v in given.items() if forward.any_name or k in forward.by_name}
    alone = forward.required or forward.by_place
    if not taken and len(alone) == 1 and given:
        tensors = {k: v for k, v in given.items() if isinstance(v, Tensor) or not drops}
        for name, value in tensors.items():
            _check_tensor(function, repr(name), value)
        return (tensors,)
    missing = [name for name in forward.required if name not in taken]
    unknown = [] if drops else [name for name in given if name not in taken]
    if missing or unknown or not taken:
        raise ValueError(
            f"{function}: images must be a dict of the arguments of {forward}, got "
            f"{', '.join(map(repr, given)) or 'an empty one'}"
        )
    for name, value in taken.items():
        _check_tensor(function, repr(name), value)
    return taken


def check_one(function: str, forward: Forward) -> None:
    """Make sure that a forward can be called with one tensor.

    Raises:
        ValueError: it asks for more.
    """
    if len(forward.required) > 1:
        raise ValueError(
            f"{function}: images must be a tuple or dict with a tensor for each argument of "
            f"{forward}, got one tensor"
        )


def _check_tensor(function: str, name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{function}: images must be a torch.Tensor for every input, got "
            f"{type(value).__name__} for {name}"
        )
    check_tensor(f"{function}: images, {name},", value)
