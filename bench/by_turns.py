"""FSKD by turns on digits: iterative pruning (Algorithm 2), students with random weights.

python bench/by_turns.py pruning
python bench/by_turns.py students

The teacher is a small VGG of 1, 2 and 2 convolutions that this trains first. Accuracy on the 500
test digits, mean over draws of images (and of students); single draws stand behind.
"""

import statistics
import warnings

import click
import torch
from helpers.on_digits import digits, small_vgg, trained_vgg
from torch import Tensor, nn

import fsc
from fsc import BackProp, FitNet
from fsc.schemes import Scheme
from fsc.training.evaluate import accuracy


def drawn(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """So many training digits, with their classes."""
    images, labels = digits("train")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:count]
    return images[chosen], labels[chosen]


def trained() -> nn.Sequential:
    """The teacher."""
    teacher = trained_vgg(1, 2, 2)
    print(f"teacher {accuracy(teacher, *digits('test')):.1f}")
    return teacher


def show(name: str, values: list[float]) -> None:
    """A line of a table."""
    each = "  ".join(f"{value:.1f}" for value in values)
    print(f"  {name:<22}{statistics.fmean(values):6.1f}   {each}", flush=True)


@click.group()
def main() -> None:
    """Print one of the two tables."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", fsc.CompressionWarning)


@main.command()
@click.option("--draws", default=3)
def pruning(draws: int) -> None:
    """All channels at once against rounds, with the given teacher or that of the round before."""
    teacher, test = trained(), digits("test")
    for ratio, rounds in ((0.2, 2), (0.2, 3), (0.2, 4), (0.1, 8)):
        found: dict[str, list[float]] = {"at once": [], "teacher": [], "previous": []}
        share = 0.0
        for seed in range(draws):
            images, _ = drawn(100, seed)
            for align_to in ("teacher", "previous"):
                result = fsc.prune_iteratively(
                    teacher, images, pruning_ratios=[ratio], rounds=rounds, align_to=align_to,
                    score_images=test[0][:20], seed=seed,
                )  # fmt: skip
                found[align_to].append(accuracy(result.student, *test))
            share = result.candidates[-1].flops / result.flops_teacher
            layers = dict(result.student.named_modules()).items()
            widths = {n: m.out_channels for n, m in layers if isinstance(m, nn.Conv2d)}
            scheme = Scheme("as by turns", widths)
            student = fsc.compress(teacher, images, method="fskd", scheme=scheme, seed=seed).student
            found["at once"].append(accuracy(student, *test))
        print(f"{rounds} rounds of {100 * ratio:.0f} %, {100 * share:.0f} % of the cost left")
        for name, values in found.items():
            show(name, values)


@main.command()
@click.option("--draws", default=5)
def students(draws: int) -> None:
    """Three convolutions with random weights: trained alone, and aligned by turns."""
    teacher, test = trained(), digits("test")
    for count in (50, 100):
        print(f"{count} images")
        for training in (
            BackProp(steps=100, learning_rate=0.02),
            FitNet(steps=100, learning_rate=0.02),
        ):
            for alignment in (None, fsc.FSKD(solve_on=0)):
                method = fsc.Alternation(training=training, alignment=alignment)
                values = []
                for seed in range(draws):
                    student = small_vgg(1, 1, 1, seed=100 + seed)
                    taught = method.teach(teacher, student, *drawn(count, seed), seed=seed)
                    values.append(accuracy(taught, *test))
                show(f"{type(training).__name__}{' + FSKD' if alignment else ''}", values)


if __name__ == "__main__":
    main()
