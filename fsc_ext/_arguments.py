"""What every operator asks of its arguments before the dispatcher sees them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def require_one_device(op: str, **tensors: Tensor | None) -> None:
    """Compares the devices of the tensors that are given.

    The dispatcher would pick one of them: where that is `meta` nothing at all is computed, and no
    error says so.

    Raises:
        ValueError: there is more than one; the sentence names each argument and its device.
    """
    devices = {name: tensor.device for name, tensor in tensors.items() if tensor is not None}
    if len(set(devices.values())) > 1:
        found = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"{op}: all tensors must be on one device, got {found}")


def require_one_device_of_lists(op: str, **lists: Sequence[Tensor | None]) -> None:
    """Compares the devices of all tensors of lists, as `require_one_device` does those of tensors.

    Raises:
        ValueError: there is more than one; the sentence names the first two that differ.
    """
    first, at = None, ""
    for name, tensors in lists.items():
        for index, tensor in enumerate(tensors):
            if tensor is None:
                continue
            if first is None:
                first, at = tensor.device, f"{name}[{index}]"
            elif tensor.device != first:
                raise ValueError(
                    f"{op}: all tensors must be on one device, got {at} on {first} and "
                    f"{name}[{index}] on {tensor.device}"
                )


def require_pair(op: str, name: str, values: tuple[float, float]) -> tuple[float, float]:
    """Both numbers; the dispatcher would count them among the arguments that follow.

    Raises:
        ValueError: there are not two.
    """
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise ValueError(f"{op}: {name} must be two numbers, got {values!r}")
    return values[0], values[1]


def require_empty(op: str, what: str, **lists: Sequence[object]) -> None:
    """Where there are no weights, what stands beside them is empty, too: no operator looks at it.

    Args:
        op: the operator's name, for the sentence.
        what: what the lists hold, "tensors" or "numbers".
        lists: by the names of their arguments.

    Raises:
        RuntimeError: a list holds something.
    """
    for name, found in lists.items():
        if len(found):
            raise RuntimeError(
                f"{op}: {name} must hold 0 {what}, one for each of weights, got {len(found)}"
            )


def refuse_gradients(op: str, alone: str, **lists: Sequence[Tensor | None]) -> None:
    """What lists of layers ask of their tensors where gradients are recorded.

    Raises:
        RuntimeError: one requires a gradient; the sentence names it, and the operator on one layer.
    """
    if not torch.is_grad_enabled():
        return
    for name, tensors in lists.items():
        for index, tensor in enumerate(tensors):
            if tensor is not None and tensor.requires_grad:
                raise RuntimeError(
                    f"{op}: {name}[{index}] must not require a gradient, because the layers of "
                    f"lists get none; call it under torch.no_grad(), or {alone} layer by layer"
                )
