"""The benchmarks' clock of a GPU, on events that tell time as those of CUDA do."""

import device_clock
import numpy as np
import pytest
import torch


class Event:
    """Elapsed milliseconds as float32; a simulated device counts seconds in float64."""

    now = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = Event.now

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, later: "Event") -> float:
        return float(np.float32(1e3 * (later.at - self.at)))


def test_short_times_are_told_apart_long_after_the_first_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(device_clock, "_before", [])
    assert device_clock.seconds() == 0
    Event.now = 1800.0
    start = device_clock.seconds()
    assert start == pytest.approx(1800, rel=1e-6)
    for tick in (3e-6, 5e-6):
        Event.now += tick
        end = device_clock.seconds()
        assert end - start == pytest.approx(tick, rel=1e-4)
        start = end
