"""Whether a network's tensors hold values, and those of a file are its own; what loading needs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fsc.arguments import check_module

_NUM_NAMED_FAULTS = 3


class Mismatch(ValueError):
    """The tensors of a file are not those of a network."""


def versioned(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return a state with the versions of the modules, which the model's own state would hold.

    Modules that read older states otherwise take a state without them for the oldest.
    """
    own = model.state_dict()
    found = OrderedDict(state)
    # The one entry that files may lack: only modules without a version may add it themselves.
    for key in own.keys() - found.keys():
        found[key] = torch.zeros((), dtype=torch.int64)
    found._metadata = own._metadata  # type: ignore[attr-defined]
    return found


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Make sure that no weight is NaN or Inf; `where` begins the sentence.

    Raises:
        ValueError: one is.
    """
    for key, value in tensors.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise ValueError(f"{where}: weights must be finite, got NaN or Inf in {_first([key])}")


def check_sizes_known(name: str, network: nn.Module) -> None:
    """Make sure that no layer finds out its sizes when it first runs, as lazy ones do.

    Raises:
        ValueError: one does.
    """
    for key, value in _tensors(network):
        if is_lazy(value):
            raise ValueError(
                f"{name} must know the sizes of its layers, got {key} without; "
                "run it once on an image before"
            )


def check_holds_values(name: str, network: object) -> None:
    """Make sure that a network is one, and that its tensors have values to compute with.

    Args:
        name: of the argument, for the sentence.
        network: what was given.

    Raises:
        TypeError: it is none.
        ValueError: a tensor is on the meta device, or has no size yet.
    """
    check_module(name, network)
    assert isinstance(network, nn.Module)
    check_sizes_known(name, network)
    for key, value in _tensors(network):
        if value.is_meta:
            raise ValueError(f"{name} must hold values, got {key} on the meta device")


def _tensors(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    yield from network.named_buffers()


def check_match(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Make sure that a state can be loaded strictly; a BatchNorm may lack its count of batches.

    Raises:
        Mismatch: names, shapes or dtypes differ; the first of each kind are named.
    """
    expected = model.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} {list(state[key].shape)} instead of {list(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    kinds = [
        f"{key} {state[key].dtype} instead of {expected[key].dtype}"
        for key in expected
        if key in state and state[key].is_floating_point() != expected[key].is_floating_point()
    ]
    faults = {
        "missing": [key for key in missing if not key.endswith("num_batches_tracked")],
        "unexpected": unexpected,
        "of another shape": shapes,
        "of another dtype": kinds,
    }
    named = [f"{what}: {_first(keys)}" for what, keys in faults.items() if keys]
    if named:
        raise Mismatch(f"{path} does not match {type(model).__name__}; {'; '.join(named)}")


def _first(keys: list[str]) -> str:
    more = len(keys) - _NUM_NAMED_FAULTS
    named = (key if key.isprintable() else ascii(key) for key in keys[:_NUM_NAMED_FAULTS])
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")
