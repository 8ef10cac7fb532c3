"""What each choice of cross distillation and FSKD is worth on the real ResNet-56.

    FSC_DATA=... python examples/resnet56_variants.py            # objectives, dampings, FSKD
    FSC_DATA=... python examples/resnet56_variants.py selection  # which channels go
    FSC_DATA=... python examples/resnet56_variants.py steps      # of the default's training
    FSC_DATA=... python examples/resnet56_variants.py fifty      # what to do with 500 images
    FSC_DATA=... python examples/resnet56_variants.py relative   # steps that are shares of norms

The first two print tables of docs/results/resnet56.md: top-1 in percent on all 10,000 test images,
mean and standard deviation over the draws of seeds 0, 1 and 2. The others are of the first 5,000
test images and a draw that no table has: what the default's number of steps was chosen by
(docs/methods/default.md), and what else was tried. They take about ten minutes on two cores, a
quarter of an hour on one, an hour, and half an hour each.
"""

import argparse
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import fsc
from fsc import models, schemes
from fsc.images import data, sampling
from fsc.methods.solve_then_train import SolveThenTrain, solving, training
from fsc.networks.pretrained import load_pretrained
from fsc.solvers import ClosedForm
from fsc.training import evaluate

Method = fsc.methods.Method

VARIANTS: dict[str, Method] = {
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
    "FSKD, damping 0.1": fsc.FSKD(solve_on=0, damping=0.1),
    "FSKD, damping 1e-6": fsc.FSKD(solve_on=0, damping=1e-6),
}
SELECTIONS: dict[str, Method] = {
    selection: fsc.CrossDistillation(fsc.Estimation(), solver=ClosedForm(selection))
    for selection in ("obs", "norm")
}
FIFTY: dict[str, Method] = {
    "default": SolveThenTrain(),
    "views that are only mirrored": SolveThenTrain(train=replace(training(), views="mirrored")),
    "learning rate 0.05": SolveThenTrain(train=replace(training(), learning_rate=0.05)),
    "seconds": SolveThenTrain(train=None),
    "seconds, on 2,000 images": SolveThenTrain(solve=solving(2000), train=None),
    "MiR, 400 steps": fsc.MiR(steps=400),
}
RELATIVE: dict[str, Method] = {
    "relative": SolveThenTrain(
        train=replace(
            training(),
            relative=True,
            learning_rate=0.0015,
            momentum=0.95,
            weight_decay=0.0,
            clip_norm=None,
        )
    ),
    "default": SolveThenTrain(),
}
# What a choice is made by is no draw of the tables.
UNUSED, NUM_CHOSEN_ON = 10, 5000
# Inside blocks; past them, where either selection leaves as many channels of every layer; past
# them, where it also says how many.
GOALS: dict[str, dict[str, Any]] = {
    "res-50": {"scheme": schemes.named("res-50", "resnet56")},
    "pruning ratio 0.225": {"pruning_ratio": 0.225},
    "flops 0.6": {"flops": 0.6},
}


class Setting:
    """The teacher, draws of its training images, and what a student of it reaches."""

    def __init__(self) -> None:
        """Load everything."""
        root = Path(os.environ["FSC_DATA"])
        path = root / "checkpoints" / "cifar10_resnet56_akamaster.pt"
        self.teacher = load_pretrained(models.build("resnet56"), path)
        self.train, test = (data.load("cifar10", split, root) for split in ("train", "test"))
        self.test_images = data.to_tensor(test.images, *models.normalization("resnet56"))
        self.labels = torch.from_numpy(test.labels)

    def drawn(self, seed: int, num_shots: int = 5) -> Tensor:
        """So many images a class."""
        chosen = sampling.sample_per_class(self.train.labels, num_shots, seed).indices
        return data.to_tensor(self.train.images[chosen], *models.normalization("resnet56"))

    def show(self, name: str, method: Method, goal: dict[str, Any], num_seeds: int = 3) -> None:
        """Print a line of the table."""
        top1, sizes = [], set()
        for seed in range(num_seeds):
            result = fsc.compress(self.teacher, self.drawn(seed), method=method, **goal)
            sizes.add(result.report.flops)
            accuracy = evaluate.accuracy(
                result.student, self.test_images, self.labels, batch_size=100
            )
            top1.append(accuracy)
        each = " ".join(f"{value:.2f}" for value in top1)
        mean, spread = statistics.fmean(top1), statistics.stdev(top1)
        cost = " to ".join(f"{flops / 1e6:.2f} M" for flops in sorted({min(sizes), max(sizes)}))
        print(f"| {name} | {mean:.2f} ± {spread:.2f} | {each} | {cost} |", flush=True)

    def show_choice(self, name: str, method: Method, num_shots: int) -> None:
        """Print a line of a table of choices: accuracy, and KL divergence from the teacher."""
        result = fsc.compress(
            self.teacher, self.drawn(UNUSED, num_shots), method=method, **GOALS["res-50"]
        )
        images, labels = self.test_images[:NUM_CHOSEN_ON], self.labels[:NUM_CHOSEN_ON]
        with torch.no_grad():
            wanted, found = (
                torch.cat([network.eval()(each) for each in images.split(100)]).log_softmax(1)
                for network in (self.teacher, result.student)
            )
        top1 = 100 * (found.argmax(1) == labels).float().mean()
        divergence = (wanted.exp() * (wanted - found)).sum(1).mean()
        print(f"| {name} | {num_shots} | {top1:.2f} | {divergence:.4f} |", flush=True)


def main() -> None:
    """Print one of the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    steps = {f"{n:,} steps": SolveThenTrain(train=training(n)) for n in (400, 800, 1600)}
    chosen_on = {
        "steps": (steps, (1, 10, 50)),
        "fifty": (FIFTY, (50,)),
        "relative": (RELATIVE, (1, 5, 50)),
    }
    tables = ("variants", "selection", *chosen_on)
    parser.add_argument("table", nargs="?", choices=tables, default="variants")
    table, setting = parser.parse_args().table, Setting()
    if table in chosen_on:
        print("| what | images a class | top-1 % | KL |\n|---|---|---|---|")
        methods, shots = chosen_on[table]
        for name, method in methods.items():
            for num_shots in shots:
                setting.show_choice(name, method, num_shots)
        if table == "fifty":
            setting.show_choice("default", SolveThenTrain(), 500)  # is it the images?
        return
    print("| what | top-1 % | each draw | FLOPs |\n|---|---|---|---|")
    if table == "variants":
        for name, method in VARIANTS.items():
            setting.show(name, method, GOALS["res-50"])
        return
    for goal, asked in GOALS.items():
        for selection, method in SELECTIONS.items():
            setting.show(f"{goal}, {selection}", method, asked)


if __name__ == "__main__":
    main()
