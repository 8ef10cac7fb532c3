"""The generators that networks draw from, seeded for a while and as they were afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from fsc.networks.calls import output_of
from fsc.networks.computed_weights import copy_of
from fsc.networks.outputs import difference

_ROUNDING = 1e-4  # of what a GPU adds up in any order


@contextmanager
def own_draws(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generator that dropout draws from, and give it its state back afterwards."""
    before = draws_of(device)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        set_draws(device, before)


def varies(network: nn.Module, call: Any) -> float:
    """How far apart two runs of a network in evaluation mode are, relative to the largest output.

    Args:
        network: it is copied for that, and the generator of torch is left as it was.
        call: arguments by place and by name.

    Returns:
        0 where only roundings differ, or where it does not run.
    """
    copied = copy_of(network)
    tensors = (*copied.parameters(), *copied.buffers(), torch.empty(0, device="cpu"))
    try:
        with own_draws(0, tensors[0].device):
            apart = difference(output_of(copied, call), output_of(copied, call))
    except Exception:  # whatever a forward of somebody else raises
        return 0.0
    return apart if apart > _ROUNDING else 0.0


def check_same_each_time(function: str, network: nn.Module, call: Any) -> None:
    """Make sure that a network gives the same for the same inputs in evaluation mode.

    Args:
        function: who asks, for the sentence.
        network: as for `varies`.
        call: arguments by place and by name.

    Raises:
        ValueError: it does not.
    """
    apart = varies(network, call)
    if apart:
        raise ValueError(
            f"{function}: model must give the same outputs for the same images in evaluation mode, "
            f"got some that are {apart:.1g} of the largest apart, as where its forward draws "
            "random numbers; F.dropout and its like draw none there with training=self.training"
        )


def draws_of(device: torch.device) -> Tensor:
    """The state of the generator of a device."""
    is_cuda = device.type == "cuda"
    return torch.cuda.get_rng_state(device) if is_cuda else torch.default_generator.get_state()


def set_draws(device: torch.device, state: Tensor) -> None:
    """Give the generator of a device a state that `draws_of` gave."""
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.default_generator.set_state(state)
