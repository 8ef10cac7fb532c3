"""What torch makes of a plain version by itself."""

from collections.abc import Callable
from typing import Any

import torch


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`torch.compile` of a baseline, one program a shape; on a GPU it replays CUDA graphs."""
    mode = "reduce-overhead" if torch.cuda.is_available() else None
    return torch.compile(function, dynamic=False, mode=mode)
