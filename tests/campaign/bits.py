"""Same seed, same bits: every method twice, on one and on two threads, each with itself.

And the same student, within rounding, whatever the number of images that go through at once, and
with the same bits where what is past a budget goes to disk.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import torch
from part import Fault, Part
from random_networks import SIDE, Network
from torch import Tensor

import fsc
from fsc import method_names
from fsc.methods import JointSGD, Method, ProgressiveMiR
from fsc.result import Result
from fsc.schemes import SparseScheme

# "quarter-hour" is the default with more steps.
METHODS = tuple(name for name in method_names.NAMES if name != "quarter-hour")
THREADS = (1, 2)
IMAGES, STEPS, SMALL_BUDGET, FEW = 10, 6, 10_000, 3
# Relative, of students in float64 whose sums are made in another order.
ROUNDING = 1e-6


def method_of(name: str) -> Method:
    """A method, of few steps where it takes steps."""
    if name == "fskd-sgd":
        return fsc.FSKD(sgd=JointSGD(steps=STEPS, batch_size=4))
    steps = STEPS if name in method_names.WITH_STEPS else None
    return method_names.named(name, steps=steps)


def compressed(name: str, number: int, **limits: int) -> Result | None:
    """What the method makes of a network; none where it is refused."""
    network = Network(number).double()
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(IMAGES, 3, SIDE, SIDE, generator=generator).double()
    method, options = method_of(name), {}
    if isinstance(method, ProgressiveMiR):
        options["scheme"] = SparseScheme("sparse", {"blocks.0.conv": 8})
    else:
        options["pruning_ratio"] = 0.5
    if name in method_names.WITH_LABELS:
        options["labels"] = torch.arange(IMAGES) % 3
    try:
        return fsc.compress(network, images, method=method, seed=number, **options, **limits)
    except ValueError:
        return None


def weights(result: Result) -> Tensor:
    """All of a student in one row."""
    return torch.cat([each.flatten().double() for each in result.student.state_dict().values()])


def case(number: int, folder: Path) -> str:
    """One method on one network."""
    warnings.simplefilter("ignore")
    name, rest = METHODS[number % len(METHODS)], number // len(METHODS)
    threads, drawn = THREADS[rest % 2], rest // 2
    torch.set_num_threads(threads)
    told = f"{name} on network {drawn} with {threads} threads"
    first = compressed(name, drawn)
    if first is None:
        return "refused"
    for what, limits in (("again", {}), ("with a small budget", {"memory_budget": SMALL_BUDGET})):
        second = compressed(name, drawn, **limits)
        if second is None or not torch.equal(weights(second), weights(first)):
            raise Fault(f"{told} has other bits {what}")
    if name in method_names.WITH_TRAINING or name == "fskd-sgd":
        return "same bits"
    few = compressed(name, drawn, batch_size=FEW)
    apart = (weights(few) - weights(first)).norm() / weights(first).norm()
    if not apart <= ROUNDING:
        raise Fault(f"{told} is {apart:.1e} away where {FEW} images go through at once")
    return "same bits, same in smaller batches"


PART = Part(count=12 * len(METHODS), case=case, limit=120)
