"""Recover a student that torch-pruning has cut: FSKD or MiR with a handful of unlabelled images.

FSC_DATA=... python examples/torch_pruning_student.py [share of the channels]

ResNet-20 on CIFAR-10, channels inside blocks chosen and cut by torch-pruning's MagnitudePruner
(`pip install torch-pruning`), 10 images a class, accuracy on the first 1,000 test images.
"""

import copy
import os
import sys

import torch
import torch_pruning
from torch import Tensor, nn

import fsc
from fsc import models
from fsc.images import data, sampling
from fsc.networks.pretrained import load_pretrained
from fsc.training.evaluate import accuracy


def cut_by_torch_pruning(teacher: nn.Module, ratio: float, image: Tensor) -> nn.Module:
    """A copy without so large a share of the channels inside blocks."""
    student = copy.deepcopy(teacher)
    # It cannot follow shortcuts that pad channels, so that what they carry stays.
    whole = [
        module
        for name, module in student.named_modules()
        if isinstance(module, nn.Linear) or name == "conv1" or name.endswith("conv2")
    ]
    torch_pruning.pruner.MagnitudePruner(
        student,
        image,
        importance=torch_pruning.importance.MagnitudeImportance(p=1),
        pruning_ratio=ratio,
        ignored_layers=whole,
    ).step()
    return student.eval()


def main(ratio: float) -> None:
    """Print the accuracy of the teacher, of the cut student, and of what was recovered."""
    root = os.environ["FSC_DATA"]
    teacher = models.build("resnet20")
    load_pretrained(teacher, f"{root}/checkpoints/cifar10_resnet20_akamaster.pt")
    train, test = data.load("cifar10", "train"), data.load("cifar10", "test")
    drawn = sampling.sample_per_class(train.labels, 10, seed=0).indices
    mean, std = models.normalization("resnet20")
    images = data.to_tensor(train.images[drawn], mean, std)
    tests = data.to_tensor(test.images[:1000], mean, std), torch.from_numpy(test.labels[:1000])
    student = cut_by_torch_pruning(teacher.eval(), ratio, images[:1])
    print(f"teacher                   {accuracy(teacher, *tests):.1f} %")
    print(f"cut by {100 * ratio:.0f} %               {accuracy(student, *tests):.1f} %")
    for blocks in ("convolutions", "residual"):
        aligned = fsc.FSKD().align(teacher, student, images, blocks=blocks)
        print(f"FSKD, {blocks:<20}{accuracy(aligned, *tests):.1f} %")
    taught = fsc.MiR(steps=50).mimic(teacher, student, images)
    print(f"MiR, 50 steps             {accuracy(taught, *tests):.1f} %")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 0.2)
