"""What each choice of cross distillation and FSKD is worth on the real ResNet-56.

Run it with `FSC_DATA=... python examples/resnet56_variants.py`; it takes about ten minutes on two
cores and prints the table of docs/results/resnet56.md.
"""

import os
import statistics
from pathlib import Path

import torch

import fsc
from fsc import models, schemes
from fsc.images import data, sampling
from fsc.networks.pretrained import load_pretrained
from fsc.solvers import ClosedForm
from fsc.training import evaluate

VARIANTS: dict[str, fsc.methods.Method] = {
    "soft": fsc.CrossDistillation(),
    "soft, channels of largest norm": fsc.CrossDistillation(solver=ClosedForm("norm")),
    "soft, damping 1.5 images": fsc.CrossDistillation(solver=ClosedForm(damping=1.5)),
    "soft, damping 50 images": fsc.CrossDistillation(solver=ClosedForm(damping=50.0)),
    "soft, not recalibrated": fsc.CrossDistillation(recalibrate=False),
    "soft, behind the ReLU": fsc.CrossDistillation(activation="relu"),
    "convex": fsc.CrossDistillation(fsc.Convex()),
    "convex, not recalibrated": fsc.CrossDistillation(fsc.Convex(), recalibrate=False),
    "soft, output filters": fsc.CrossDistillation(axis="output_filters"),
    "FSKD": fsc.FSKD(solve_on=0),
    "FSKD, on 400 images": fsc.FSKD(),
    "FSKD, on 400 images, intercept": fsc.FSKD(intercept=True),
    "FSKD, damping 0.01": fsc.FSKD(solve_on=0, damping=0.01),
    "FSKD, damping 1e-6": fsc.FSKD(solve_on=0, damping=1e-6),
}


def main(num_seeds: int = 3, num_shots: int = 5) -> None:
    """Prints mean and standard deviation of top-1 over the draws of seeds 0, 1, 2."""
    root = Path(os.environ["FSC_DATA"])
    path = root / "checkpoints" / "cifar10_resnet56_akamaster.pt"
    teacher = load_pretrained(models.build("resnet56"), path)
    statistics_of_inputs = models.normalization("resnet56")
    train, test = data.load("cifar10", "train", root), data.load("cifar10", "test", root)
    test_images = data.to_tensor(test.images, *statistics_of_inputs)
    labels = torch.from_numpy(test.labels)
    scheme = schemes.named("res-50", "resnet56")
    for name, method in VARIANTS.items():
        top1 = []
        for seed in range(num_seeds):
            chosen = sampling.sample_per_class(train.labels, num_shots, seed).indices
            images = data.to_tensor(train.images[chosen], *statistics_of_inputs)
            student = fsc.compress(teacher, images, method=method, scheme=scheme).student
            top1.append(evaluate.accuracy(student, test_images, labels, batch_size=100))
        spread = statistics.stdev(top1)
        print(f"{name:32s} {statistics.fmean(top1):.2f} ± {spread:.2f}", flush=True)


if __name__ == "__main__":
    main()
