"""Whether a network runs on the images at all, tried on one of them before any work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fsc.cli.sentences import is_lack_of_memory
from fsc.images.checks import device_of
from fsc.networks.calls import call_of, output_of
from fsc.networks.wrappers import dtype_of

# Tried in this order, to say what would do: small ones first, those of ImageNet among them.
_SIDES = (8, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 384)


def first_scores(model: nn.Module, image: Tensor, title: str, flag: str) -> Any:
    """What a network gives for an image.

    Args:
        model: the network.
        image: [1, C, H, W], normalised.
        title: what sentences call the network.
        flag: what decides the size of the image.

    Raises:
        ValueError: it does not run; the sentence says whether size or channels are at fault, or
            what the network raised.
    """
    try:
        return _run(model, image)
    except Exception as error:  # whatever a network of somebody else raises
        if is_lack_of_memory(error):
            raise
        raise ValueError(_why(model, image, title, flag, error)) from error


def channels_read(model: nn.Module) -> int:
    """How many channels a network's images have: those of a convolution on which it runs.

    The first one by name may read something else. Where it runs on none, it has those of the first;
    3 without any.
    """
    read = {m.in_channels: None for m in model.modules() if isinstance(m, nn.Conv2d)}
    runs = (count for count in read if _side_that_runs(model, count, _SIDES) is not None)
    return next(runs, next(iter(read), 3))


def _run(model: nn.Module, image: Tensor) -> Any:
    return output_of(model, call_of(image.to(device_of(model, image), dtype_of(model))))


def _why(model: nn.Module, image: Tensor, title: str, flag: str, error: Exception) -> str:
    channels, height, width = image.shape[1:]
    side = _side_that_runs(model, channels, [s for s in _SIDES if (s, s) != (height, width)])
    if side is not None:
        return (
            f"{flag} must give images that {title} runs on, such as {side} x {side}, got "
            f"{height} x {width}"
        )
    read = {m.in_channels: None for m in model.modules() if isinstance(m, nn.Conv2d)}
    other = next((n for n in read if n != channels and _side_that_runs(model, n, _SIDES)), None)
    if other is not None:
        return f"data must have the {other} channels that {title} reads, got images with {channels}"
    line = next(iter(str(error).splitlines()), "")
    raised = type(error).__name__ + (f": {line}" if line else "")
    return (
        f"--model must name a network that runs on a tensor {list(image.shape)}, got {title}, "
        f"which raised {raised}"
    )


def _side_that_runs(model: nn.Module, channels: int, sides: Sequence[int]) -> int | None:
    """The first side of which the network takes a square, if there is one."""
    for side in sides:
        try:
            _run(model, torch.zeros(1, channels, side, side, device="cpu"))
        except Exception:  # as above
            continue
        return side
    return None
