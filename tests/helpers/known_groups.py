"""Channel groups that are found once, for tests that look at what is done with them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from torch import Tensor, nn

from fsc.channels import proof

_KNOWN: dict[tuple[object, ...], list[proof.ChannelGroup]] = {}


@contextmanager
def found_once(*modules: str) -> Iterator[None]:
    """Find the groups of a network of some modules once on each device, not in every call.

    Args:
        modules: beginnings of names, of modules whose networks are what their layers are.
    """

    def found(model: nn.Module, example: Tensor) -> list[proof.ChannelGroup]:
        if not type(model).__module__.startswith(modules):
            return proof.channel_groups(model, example)
        tensors = model.state_dict().values()
        weights = (tensor.detach().cpu().numpy().tobytes() for tensor in tensors)
        key = (type(model), repr(model), example.shape, example.dtype, example.device, *weights)
        if key not in _KNOWN:
            _KNOWN[key] = proof.channel_groups(model, example)
        return _KNOWN[key]

    with pytest.MonkeyPatch.context() as patch:
        for caller in ("fsc.goal", "fsc.schemes"):
            patch.setattr(f"{caller}.channel_groups", found)
        yield
