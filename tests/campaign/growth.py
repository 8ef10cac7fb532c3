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
from fsc.walking.frontier import AT_WORK
from fsc.walking.spill import bytes_of_walk

METHODS = {"fskd": fsc.FSKD(), "cd-nc": fsc.CrossDistillation(fsc.Estimation())}
SIZES, SIDE = (500, 1000, 2000), 224
BUDGET = 1 << 30
# Images of a minibatch, as of `fsc.compress`.
BATCH = 64
# Seconds of twice as many images over those of half of them.
MOST_PER_DOUBLING = 2.1


def network() -> nn.Sequential:
    """Convolutions that make fewer and fewer pixels."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for channels, out, stride in ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += [nn.Conv2d(channels, out, 3, stride, 1), nn.BatchNorm2d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 5)).eval()


def measured(method: str, images: Tensor, budget: int) -> tuple[float, int]:
    """Processor seconds of a compression, and bytes that it took beside the images."""
    teacher = network()
    guarded.peak_anew()
    begin, held = time.process_time(), guarded.bytes_of("VmRSS")
    fsc.compress(teacher, images, method=METHODS[method], pruning_ratio=0.5, memory_budget=budget)
    return time.process_time() - begin, guarded.bytes_of("VmHWM") - held


def case(number: int, folder: Path) -> str:
    """One method on more and more images."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    method = tuple(METHODS)[number]
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(SIZES[-1], 3, SIDE, SIDE, generator=generator)
    measured(method, images[:2], BUDGET)  # modules that are imported on the way are not activations
    at_work = AT_WORK * BATCH * bytes_of_walk(network(), images[:1]).largest
    seconds = []
    for size in SIZES:
        # In proportion, so that the same share of the activations goes to disk.
        budget = at_work + (BUDGET - at_work) * size // SIZES[-1]
        # The quicker of two: what else the machine does takes some of its time.
        turns = [measured(method, images[:size], budget) for _ in range(2)]
        spent, most = min(turn[0] for turn in turns), max(turn[1] for turn in turns)
        if most > budget:
            told = f"{most / 2**30:.2f} GiB on {size} images, {budget / 2**30:.2f} allowed"
            raise Fault(f"{method} takes {told}")
        seconds.append(spent)
    grows = [after / before for before, after in itertools.pairwise(seconds)]
    if max(grows) > MOST_PER_DOUBLING:
        raise Fault(f"{method} takes {max(grows):.2f} times as long on twice the images")
    return "linear, within the budget"


PART = Part(count=len(METHODS), case=case, limit=3600, hours=2)
