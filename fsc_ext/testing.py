"""What the tests and benchmarks of every operator share: devices, dtypes, tolerances, inputs."""

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

# Whether device code stands in for the CPU kernels, on the host emulator (tests/ops/conftest.py).
EMULATED = bool(os.environ.get("FSC_EMULATE"))


def devices() -> list[torch.device]:
    """The devices whose kernels this build holds and this machine can run."""
    from fsc_ext import build_info

    found = [torch.device("cpu")]
    if build_info()["cuda"] and torch.cuda.is_available():
        found.append(torch.device("cuda"))
    return found


FLOATING = [torch.float32, torch.float64]

# Sums of about a thousand products: a few hundred units in the last place, relative; the absolute
# part only matters where the sum cancels.
REDUCTION_TOLERANCE = {
    torch.float32: {"rtol": 3e-5, "atol": 1e-5},
    torch.float64: {"rtol": 1e-11, "atol": 1e-12},
}


def strided(tensor: Tensor) -> Tensor:
    """The same values as a view into a larger tensor, so that wrong strides give wrong results."""
    if tensor.dim() == 0:
        return tensor
    padded = torch.full(
        [*tensor.shape[:-1], 2 * tensor.shape[-1] + 1], float("nan"), dtype=tensor.dtype
    ).to(tensor.device)
    view = padded[..., 1::2]
    view.copy_(tensor)
    return view.detach()


def layouts(tensor: Tensor) -> dict[str, Tensor]:
    """The same values in every layout that an operator must take."""
    found = {"contiguous": tensor.contiguous(), "strided": strided(tensor)}
    if tensor.dim() == 4:
        found["channels_last"] = tensor.contiguous(memory_format=torch.channels_last)
    return found


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function under torch.compile, one program a shape."""
    return torch.compile(function, dynamic=False)
