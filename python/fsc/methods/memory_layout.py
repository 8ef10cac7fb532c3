"""The memory format in which a network is trained fastest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from fsc.networks.modes import evaluation_mode


@contextmanager
def fast_layout(body: nn.Module, example: Tensor) -> Iterator[torch.memory_format]:
    """Puts weights in the memory format in which a step takes least, and back afterwards.

    On a CPU oneDNN computes with channels last, and would reorder every value otherwise. A body
    that views its values as in the usual order does not run so, and stays as it is.

    Args:
        body: what is trained.
        example: what it reads of one image, [1, C, H, W]; others have the usual order.

    Yields:
        The format that its images are to have.
    """
    weights = [parameter for parameter in body.parameters() if parameter.ndim == 4]
    before = [weight.data for weight in weights]
    try:
        for weight in weights:
            weight.data = weight.data.to(memory_format=_fastest(example))
        layout = layout_for(body, example)
        if layout == torch.preserve_format:
            for weight, values in zip(weights, before, strict=True):
                weight.data = values
        yield layout
    finally:
        for weight, values in zip(weights, before, strict=True):
            weight.data = torch.empty_like(values).copy_(weight.data)


def layout_for(body: nn.Module, example: Tensor) -> torch.memory_format:
    """The memory format of images with which a network takes least, among those it runs with."""
    fastest = _fastest(example)
    return fastest if _runs(body, example.to(memory_format=fastest)) else torch.preserve_format


def _fastest(example: Tensor) -> torch.memory_format:
    on_cpu = example.device.type == "cpu"
    return torch.channels_last if example.ndim == 4 and on_cpu else torch.preserve_format


def _runs(body: nn.Module, image: Tensor) -> bool:
    with evaluation_mode(body), torch.no_grad():
        try:
            body(image)
        except RuntimeError:  # of a view
            return False
    return True
