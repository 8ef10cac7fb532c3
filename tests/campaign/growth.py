"""Growth: memory stays within its budget however many images there are, and time grows as they do.

The largest case has 2,000 images of 224 x 224, 1.2 GB, whose activations would take several times
the budget if they were all held.
"""

from __future__ import annotations

import itertools
import time
import warnings
from pathlib import Path

import guarded
import torch
from part import Fault, Part
from torch import Tensor, nn

import fsc

METHODS = {"fskd": fsc.FSKD(), "cd-nc": fsc.CrossDistillation(fsc.Estimation())}
SIZES, SIDE = (1000, 1500, 2000), 224  # from where the budget is reached, in equal steps
BUDGET = 1 << 30
# What a minibatch takes, and the matrices of a layer, come on top of the budget.
BESIDE = 1 << 29
# Seconds that the last images took over those that as many took before: 1.4 were quadratic.
MOST_PER_STEP = 1.3


def network() -> nn.Sequential:
    """Convolutions that make fewer and fewer pixels."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels, out, stride in ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += [nn.Conv2d(channels, out, 3, stride, 1), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)).eval()


def measured(method: str, images: Tensor) -> tuple[float, int]:
    """Processor seconds of a compression, and bytes that it took beside the images."""
    teacher = network()
    guarded.peak_anew()
    begin, held = time.process_time(), guarded.bytes_of("VmRSS")
    fsc.compress(teacher, images, method=METHODS[method], pruning_ratio=0.5, memory_budget=BUDGET)
    return time.process_time() - begin, guarded.bytes_of("VmHWM") - held


def case(number: int, folder: Path) -> str:
    """One method on more and more images."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    method = tuple(METHODS)[number]
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(SIZES[-1], 3, SIDE, SIDE, generator=generator)
    seconds = []
    for size in SIZES:
        spent, most = measured(method, images[:size])
        if most > BUDGET + BESIDE:
            raise Fault(f"{method} takes {most / 2**30:.2f} GiB on {size} images, 1 GiB allowed")
        seconds.append(spent)
    first, then = (after - before for before, after in itertools.pairwise(seconds))
    if then > MOST_PER_STEP * first:
        raise Fault(f"{method} takes {then / first:.2f} times as long for as many images more")
    return "linear, within the budget"


PART = Part(count=len(METHODS), case=case, limit=3600, hours=2)
