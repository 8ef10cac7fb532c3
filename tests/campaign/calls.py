"""A call of an operator: its arguments, what it may change, and what must come out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Arguments = dict[str, Any]


@dataclass
class Call:
    """One call.

    Args:
        name: the operator's, in fsc_ext.
        arguments: by their names.
        changes: names of those that it writes.
        check: of arguments as they were, as they are, and the result: raises `WrongError`.
        differentiable: names of arguments that get a gradient.
        gradients: of the arguments as they were and the gradients of the results: a list of value
            and error of the gradient of each of `differentiable`.
        refusals: parts of sentences with which a valid call may be refused, too.
    """

    name: str
    arguments: Arguments
    check: Callable[[Arguments, Arguments, Any], None]
    changes: tuple[str, ...] = ()
    differentiable: tuple[str, ...] = ()
    gradients: Callable[[Arguments, list[Tensor]], list[tuple[Tensor, Tensor]]] | None = None
    refusals: tuple[str, ...] = ()


def tensors_of(arguments: Arguments) -> Iterator[tuple[str, Tensor]]:
    """All tensors by what a sentence calls them, those in lists with an index."""
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, list | tuple):
            for index, part in enumerate(value):
                if isinstance(part, Tensor):
                    yield f"{name}[{index}]", part


def copied(arguments: Arguments) -> Arguments:
    """The same values in memory of their own."""

    def one(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.detach().clone()
        return [one(part) for part in value] if isinstance(value, list) else value

    return {name: one(value) for name, value in arguments.items()}


def in_words(arguments: Arguments) -> str:
    """All that somebody needs to build the same call but for the values."""

    def one(value: Any) -> str:
        if isinstance(value, Tensor):
            kind = str(value.dtype).removeprefix("torch.")
            if str(value.layout) != "torch.strided":
                return f"{kind} {list(value.shape)} {value.layout}"
            place = f" at {value.storage_offset()}" if value.storage_offset() else ""
            device = "" if value.device.type == "cpu" else f" on {value.device}"
            grad = " that requires a gradient" if value.requires_grad else ""
            return f"{kind} {list(value.shape)} by {list(value.stride())}{place}{device}{grad}"
        if isinstance(value, list):
            return "[" + ", ".join(one(part) for part in value) + "]"
        return repr(value)

    return ", ".join(f"{name}={one(value)}" for name, value in arguments.items())
