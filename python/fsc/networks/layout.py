"""In which order the values of a tensor lie in memory."""

import torch
from torch import Tensor

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def layout_of(tensor: Tensor) -> torch.memory_format:
    """Channels last where a tensor lies so and not also in the usual order, else that."""
    layout = _CHANNELS_LAST.get(tensor.ndim, torch.contiguous_format)
    is_usual = tensor.is_contiguous() or not tensor.is_contiguous(memory_format=layout)
    return torch.contiguous_format if is_usual else layout
