"""The device's own clock, for pytest-benchmark."""

import torch

_first: list[torch.cuda.Event] = []


def seconds() -> float:
    """Seconds between the first call and now, now being when all work launched so far is done."""
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    event.synchronize()
    if not _first:
        _first.append(event)
    return _first[0].elapsed_time(event) / 1e3
