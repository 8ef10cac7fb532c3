"""What the pull of FSKD's Q towards the identity costs, by `damping` and the number of images.

FSC_DATA=... python bench/fskd_damping.py

Prints a table of docs/results/fskd.md, in a quarter of an hour on one thread: top-1 in percent on
the first 2,000 test images, one draw, whose seed no other table has.
"""

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from compress_seconds import given

import fsc
from fsc import models
from fsc.images import data
from fsc.schemes import Scheme
from fsc.training import evaluate

DAMPINGS = (0.1, 0.03, 0.01, 0.003, 0.0)
NUM_TEST, SEED = 2000, 11


@dataclass(frozen=True)
class Case:
    """A student: of which network and scheme, from how many images a class, solved on how many."""

    title: str
    model: str
    scheme: str | Scheme
    num_shots: int
    solve_on: int = 400

    def top1(self, damping: float) -> float:
        """What it reaches, in percent."""
        teacher, images = given(self.model, self.num_shots, SEED)
        method = fsc.FSKD(damping=damping, solve_on=self.solve_on)
        student = fsc.compress(teacher, images, method=method, scheme=self.scheme).student
        test = data.load("cifar10", "test", Path(os.environ["FSC_DATA"]))
        wanted = torch.from_numpy(test.labels[:NUM_TEST])
        seen = data.to_tensor(test.images[:NUM_TEST], *models.normalization(self.model))
        return evaluate.accuracy(student, seen, wanted, batch_size=100)


# Filters of VGG-16's convolutions.
COUNTS = (25, 51, 102, 102, 179, 179, 179, 128, 128, 128, 128, 128, 128)
LAYERS = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
ABOUT_C = Scheme(
    "about-c",
    {f"features.{layer}": count for layer, count in zip(LAYERS, COUNTS, strict=True)},
)
CASES = (
    Case("VGG-16, about C, 100 images", "vgg16", ABOUT_C, 10),
    Case("the same, on 100 images alone", "vgg16", ABOUT_C, 10, solve_on=0),
    Case("the same, on 2,000", "vgg16", ABOUT_C, 10, solve_on=2000),
    Case("VGG-16, about C, 500 images", "vgg16", ABOUT_C, 50),
    Case("VGG-16, `vgg-b`, 100 images", "vgg16", "vgg-b", 10),
    Case("VGG-16, `vgg-50`, 10 images", "vgg16", "vgg-50", 1),
    Case("ResNet-56, `res-50`, 10 images", "resnet56", "res-50", 1),
    Case("ResNet-56, `res-50`, 50 images", "resnet56", "res-50", 5),
)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", fsc.CompressionWarning)
    print(f"| | {' | '.join(map(str, DAMPINGS))} |\n|---|{'---|' * len(DAMPINGS)}")
    for case in CASES:
        cells = " | ".join(f"{case.top1(damping):.2f}" for damping in DAMPINGS)
        print(f"| {case.title} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
