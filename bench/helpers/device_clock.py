"""The device's own clock, for pytest-benchmark."""

import torch

# The event of the call before, and the seconds between the first call and that one.
_before: list[tuple[torch.cuda.Event, float]] = []


def seconds() -> float:
    """Seconds between the first call and now, now being when all work launched so far is done.

    Events tell their distance as a float32 of milliseconds, which an hour after the first has a
    grain of a quarter of a millisecond: so each call asks for the time since the call before, and
    adds up in float64.
    """
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    event.synchronize()
    now = 0.0
    if _before:
        last, so_far = _before.pop()
        now = so_far + last.elapsed_time(event) / 1e3
    _before.append((event, now))
    return now
