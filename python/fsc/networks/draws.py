"""The generators that networks draw from, seeded for a while and as they were afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


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
