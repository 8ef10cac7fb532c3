"""Calls that take turns in one process: what else the machine does falls on all of them alike."""

import math
import time
from collections.abc import Callable, Mapping

Calls = Mapping[str, Callable[[], object]]

# Seconds that a turn has at least, so that the grain of the clock and a cold cache do not matter.
LEAST = 2e-3


def in_turns(calls: Calls, rounds: int, seconds: float = 0.0) -> dict[str, list[float]]:
    """Process CPU seconds of each call, one value a round; two rounds before them are left out.

    Short calls are repeated within a turn. The order changes from round to round: none always comes
    behind the same one. There are more rounds while they have not taken `seconds` together.
    """
    for call in calls.values():
        call()
    once = {name: max(_seconds(call, 1), 1e-7) for name, call in calls.items()}
    repeats = {name: math.ceil(LEAST / value) for name, value in once.items()}
    rounds = max(rounds, int(seconds / sum(max(LEAST, value) for value in once.values())))
    spent: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            spent[name].append(_seconds(calls[name], repeats[name]))
    return spent


def _seconds(call: Callable[[], object], repeats: int) -> float:
    begin = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - begin) / repeats
