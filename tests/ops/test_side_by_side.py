"""Operators that several threads of Python call at once, each with memory of its own to write."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

import fsc_ext
from fsc_ext.testing import EMULATED

if EMULATED:
    pytest.skip("the emulator runs one kernel at a time", allow_module_level=True)

from calls import Call, tensors_of  # noqa: E402
from drawing import Draw  # noqa: E402
from operators import DRAWN  # noqa: E402

THREADS, CALLS = 3, 12


def own_copies(call: Call) -> dict:
    """The arguments; what the call changes is copied, what it reads is shared by all threads."""

    def one(name, value):
        if name not in call.changes or value is None:
            return value
        return [one(name, part) for part in value] if isinstance(value, list) else value.clone()

    return {name: one(name, value) for name, value in call.arguments.items()}


def outcome(call: Call, start: threading.Barrier | None = None) -> list[torch.Tensor]:
    """All that comes out of a call; nothing where it is refused."""
    arguments = own_copies(call)
    if start:
        start.wait()
    try:
        result = getattr(fsc_ext, call.name)(**arguments)
    except (ValueError, RuntimeError):  # what a valid call may be told: half precision, no filters
        return []
    results = result if isinstance(result, tuple | list) else (result,)
    named = {str(index): each for index, each in enumerate(results)}
    named |= {name: arguments[name] for name in call.changes}
    return [tensor for _, tensor in tensors_of(named)]


@pytest.mark.parametrize("drawn", DRAWN, ids=lambda drawn: drawn.__name__)
def test_threads_do_not_disturb_each_other(drawn):
    came_out = 0
    with ThreadPoolExecutor(THREADS) as pool:
        for seed in range(CALLS):
            call = drawn(Draw(seed))
            alone = outcome(call)
            start = threading.Barrier(THREADS)
            for each in [pool.submit(outcome, call, start) for _ in range(THREADS)]:
                found = each.result()
                assert len(found) == len(alone)
                for one, other in zip(found, alone, strict=True):
                    torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
            came_out += len(alone)
    assert came_out
