"""CPU seconds of `fsc.compress` on 50 real images, in closed form.

FSC_DATA=... python bench/compress_seconds.py

Prints the table of docs/performance.md: one thread, user and system time together, five images a
class of seed 0, the second of two runs in a process, so that nothing is imported on the way.
"""

import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

import fsc
from fsc import models, schemes
from fsc.images import data, sampling
from fsc.method_names import named
from fsc.networks.pretrained import load_pretrained

CASES = (
    ("resnet56", "res-50", "seconds"),
    ("resnet56", "res-50", "cd-nc"),
    ("vgg16", "vgg-50", "cd-soft"),
)
FILES = {"resnet56": "cifar10_resnet56_akamaster.pt", "vgg16": "cifar10_vgg16.pt"}


def given(model: str, num_shots: int = 5, seed: int = 0) -> tuple[nn.Module, Tensor]:
    """The trained network and so many of its images a class."""
    root = Path(os.environ["FSC_DATA"])
    teacher = load_pretrained(models.build(model), root / "checkpoints" / FILES[model])
    train = data.load("cifar10", "train", root)
    chosen = sampling.sample_per_class(train.labels, num_shots, seed).indices
    return teacher, data.to_tensor(train.images[chosen], *models.normalization(model))


def seconds(model: str, scheme: str, method: str) -> float:
    """Of the second run."""
    teacher, images = given(model)
    spent = 0.0
    for _ in range(2):
        begin = sum(os.times()[:2])
        fsc.compress(
            teacher, images, method=named(method, model), scheme=schemes.named(scheme, model)
        )
        spent = sum(os.times()[:2]) - begin
    return spent


def main() -> None:
    """Print it."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", fsc.CompressionWarning)
    print("| network | scheme | method | CPU s |\n|---|---|---|---|")
    for case in CASES:
        print(f"| {' | '.join(case)} | {seconds(*case):.1f} |", flush=True)


if __name__ == "__main__":
    main()
