"""What the native loops ask of their arguments before the dispatcher sees them."""

import sys
from collections.abc import Sequence

import torch
from torch import Tensor

from fsc_ext._arguments import refuse_gradient, require_pair, require_tensor, require_tensors
from fsc_ext.step import IN_PLACE


def is_adam(op: str, optimizer: str) -> bool:
    """Whether a loop's steps are Adam's and not those of gradient descent."""
    if optimizer not in ("adam", "sgd"):
        raise RuntimeError(f"{op}: optimizer must be 'adam' or 'sgd', got {optimizer!r}")
    return optimizer == "adam"


def coefficients_of(
    op: str, betas: tuple[float, float], eps: float, momentum: float
) -> tuple[float, ...]:
    """Of the optimisers; the dispatcher would call all of them by one name."""
    pair = require_pair(op, "betas", betas)
    for name, value in (
        ("betas", pair[0]),
        ("betas", pair[1]),
        ("eps", eps),
        ("momentum", momentum),
    ):
        if not isinstance(value, int | float):
            raise TypeError(f"{op}: {name} must hold numbers, got {type(value).__name__}")
        if isinstance(value, int) and abs(value) > sys.float_info.max:
            raise ValueError(f"{op}: {name} must be at most {sys.float_info.max:g}, got more")
    return (*pair, eps, momentum)


def new_state(weight: Tensor, adam: bool, momentum: float) -> list[Tensor]:
    """What an optimiser begins with."""
    return [torch.zeros_like(weight) for _ in range(2 if adam else int(momentum != 0))]


def require_schedules(op: str, **schedules: Tensor) -> None:
    """The dispatcher would follow a schedule to another device, meta for instance."""
    for name, values in schedules.items():
        require_tensor(op, name, values)
        if values.device.type != "cpu":
            raise RuntimeError(
                f"{op}: {name} must be float64 on the CPU, got {values.dtype} on {values.device}"
            )


def require_loop_tensors(
    op: str, state: list[Tensor] | None, optional: Sequence[str], **tensors: Tensor | None
) -> None:
    """What is changed and what it is made of: tensors on one device, none with a gradient.

    Raises:
        TypeError: an argument is no tensor, or `state` no list.
        RuntimeError: a tensor is sparse, or requires a gradient.
        ValueError: there is more than one device.
    """
    if not isinstance(state, list | tuple | None):
        raise TypeError(f"{op}: state must be a list of tensors, got {type(state).__name__}")
    tensors |= {f"state[{i}]": part for i, part in enumerate(state or [])}
    require_tensors(op, optional, **tensors)
    for name, tensor in tensors.items():
        refuse_gradient(op, name, tensor, IN_PLACE)


def new_mask(weight: Tensor, penalty: str) -> Tensor | None:
    """All weights, for penalties that keep some for good."""
    keeps = penalty in ("topk", "topk_groups")
    return torch.ones_like(weight, dtype=torch.bool) if keeps else None
