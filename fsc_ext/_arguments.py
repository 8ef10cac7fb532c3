"""What every operator asks of its arguments before the dispatcher sees them."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def require_tensors(op: str, optional: Sequence[str] = (), **tensors: Tensor | None) -> None:
    """Looks at the kinds and the devices of tensors.

    The dispatcher would pick one of the devices: where that is `meta` nothing at all is computed,
    and no error says so.

    Args:
        op: the operator's name, for the sentence.
        optional: the names of those that may be None.
        tensors: by the names of their arguments.

    Raises:
        TypeError: an argument is no tensor.
        RuntimeError: a tensor is sparse, or of another layout without strides.
        ValueError: there is more than one device; the sentence names each argument and its device.
    """
    devices = {}
    for name, tensor in tensors.items():
        if tensor is None and name in optional:
            continue
        devices[name] = require_tensor(op, name, tensor).device
    if len(set(devices.values())) > 1:
        found = ", ".join(f"{name} on {device}" for name, device in devices.items())
        raise ValueError(f"{op}: all tensors must be on one device, got {found}")


def require_tensor(op: str, name: str, tensor: Tensor | None) -> Tensor:
    """What every operator asks of a tensor, which is given back.

    Raises:
        TypeError: it is none.
        RuntimeError: it is sparse, or of another layout without strides.
        NotImplementedError: it carries a tangent, which PyTorch would drop: a derivative in forward
            mode would be 0 in silence.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name} must be a tensor, got {_kind(tensor)}")
    if tensor.layout != torch.strided:
        raise RuntimeError(f"{op}: {name} must be a dense tensor, got one of {tensor.layout}")
    if _has_tangent(tensor):
        raise NotImplementedError(
            f"{op}: {name} must carry no tangent, derivatives are computed in backward mode alone"
        )
    return tensor


def _has_tangent(tensor: Tensor) -> bool:
    """Whether forward mode follows a tensor, as far as can be seen from here.

    Callers that are compiled, and transforms within transforms, are not looked into.
    """
    # Private, and the only way to ask at no cost whether anybody computes in forward mode.
    if forward_ad._current_level < 0 or torch.compiler.is_compiling():
        return False
    try:
        return forward_ad.unpack_dual(tensor).tangent is not None
    except RuntimeError:  # one of a batch of vmap, which cannot be unpacked
        return False


def listed_tensors(
    op: str, optional: Sequence[str] = (), **lists: Iterable[Tensor | None]
) -> dict[str, list[Any]]:
    """The lists as lists, what the dispatcher would not see of them looked at.

    Args:
        op: the operator's name, for the sentence.
        optional: the names of those that may hold None.
        lists: by the names of their arguments.

    Raises:
        TypeError: an argument is no list, or holds something that is no tensor.
        RuntimeError: a tensor is sparse, or of another layout without strides.
        ValueError: the tensors are on different devices; the sentence names the first two.
    """
    found: dict[str, list[Any]] = {}
    first, at = None, ""
    for name, tensors in lists.items():
        # Each of these can be gone through, and would give what nobody has meant.
        if isinstance(tensors, Tensor | str | Mapping) or not isinstance(tensors, Iterable):
            raise TypeError(f"{op}: {name} must be a list of tensors, got {_kind(tensors)}")
        found[name] = list(tensors)
        for index, tensor in enumerate(found[name]):
            if tensor is None and name in optional:
                continue
            require_tensor(op, f"{name}[{index}]", tensor)
            if first is None:
                first, at = tensor.device, f"{name}[{index}]"
            elif tensor.device != first:
                raise ValueError(
                    f"{op}: all tensors must be on one device, got {at} on {first} and "
                    f"{name}[{index}] on {tensor.device}"
                )
    return found


def _kind(value: object) -> str:
    return type(value).__name__


def require_pair(op: str, name: str, values: tuple[float, float]) -> tuple[float, float]:
    """Both numbers; the dispatcher would count them among the arguments that follow.

    Raises:
        ValueError: there are not two.
    """
    if not isinstance(values, tuple | list) or len(values) != 2:
        raise ValueError(f"{op}: {name} must be two numbers, got {values!r}")
    return values[0], values[1]


def require_empty(op: str, what: str, **lists: object) -> None:
    """Where there are no weights, what stands beside them is empty, too: no operator looks at it.

    Args:
        op: the operator's name, for the sentence.
        what: what the lists hold, "tensors" or "numbers".
        lists: by the names of their arguments.

    Raises:
        TypeError: an argument is no list.
        RuntimeError: a list holds something.
    """
    for name, found in lists.items():
        if not isinstance(found, Sized):
            raise TypeError(f"{op}: {name} must be a list of {what}, got {_kind(found)}")
        if len(found):
            raise RuntimeError(
                f"{op}: {name} must hold 0 {what}, one for each of weights, got {len(found)}"
            )


def refuse_gradient(op: str, name: str, tensor: Tensor | None, what: str) -> None:
    """What has no gradient takes nothing that asks for one: autograd would not know.

    Args:
        op: the operator's name, for the sentence.
        name: of the argument.
        tensor: what is given for it.
        what: has no gradient, in words.

    Raises:
        RuntimeError: the tensor requires a gradient where gradients are recorded.
    """
    if tensor is not None and torch.is_grad_enabled() and tensor.requires_grad:
        raise RuntimeError(
            f"{op}: {name} must not require a gradient, because {what} has none; "
            "call it under torch.no_grad()"
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
