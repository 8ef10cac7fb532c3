"""Networks for network slimming, trained with a penalty on the scales of their BatchNorms.

FSC_DATA=... python bench/sparse_training.py --model resnet164 --folder slimmed [--epochs 20]

Trains on the images of CIFAR-10 that are there and writes the weights into the folder, as
`fsc compare --checkpoint` takes them. What is there already is left; an interrupted training goes
on with its next epoch. An epoch of 5,000 images takes ResNet-164 three minutes of one core.
"""

import time
from functools import partial
from pathlib import Path

import click
import torch

from fsc import models
from fsc.files import write_atomically
from fsc.images import data
from fsc.networks.operations import BATCH_NORM
from fsc.training import evaluate, supervised


@click.command()
@click.option("--model", default="resnet164", type=click.Choice(models.names()))
@click.option("--folder", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--epochs", default=20, type=click.IntRange(min=1))
@click.option("--rate", default=0.1)
@click.option("--penalty", default=3e-3)
def main(model: str, folder: Path, epochs: int, rate: float, penalty: float) -> None:
    """Train one network, and print its accuracy on all test images and what its scales are."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / f"{model}.pt"
    if weights.exists():
        click.echo(f"{weights} is there already")
        return
    train, test = (data.load("cifar10", split) for split in ("train", "test"))
    mean, deviation = models.normalization(model)
    torch.manual_seed(0)
    # A third faster on a processor, ResNet-164 of 5,000 images.
    network = models.build(model).to(memory_format=torch.channels_last)
    supervised.train(
        network,
        data.to_tensor(train.images, mean, deviation),
        torch.from_numpy(train.labels),
        epochs=epochs,
        learning_rate=rate,
        scale_penalty=penalty,
        shift=4,
        mirror=True,
        progress=_told,
        state_file=folder / f"{model}.state",
    )
    test_images = data.to_tensor(test.images, mean, deviation)
    top1 = evaluate.accuracy(network, test_images, torch.from_numpy(test.labels))
    write_atomically(weights, partial(torch.save, network.state_dict()))
    norms = [module for module in network.modules() if isinstance(module, BATCH_NORM)]
    scales = torch.cat([norm.weight.detach().abs() for norm in norms])
    shares = ", ".join(f"{scales.quantile(share):.2g}" for share in (0.1, 0.4, 0.7))
    click.echo(f"{model}: top-1 {top1:.2f} %; a tenth, 40 % and 70 % of the scales below {shares}")


def _told(what: str, done: int, of: int) -> None:
    click.echo(f"{time.strftime('%H:%M:%S')} {what} {done} of {of}")


if __name__ == "__main__":
    main()
