"""Training all weights against training 1x1 convolutions alone (FSKD, Table 6).

FSC_DATA=... python bench/pointwise_training.py [--model resnet20] [--data cifar10] [--epochs 30]

Both networks start from the same random weights and compute the same before the first step; one has
its convolutions decoupled at full rank, the depthwise halves frozen. Same images, order, shifts and
rates. Accuracy on all test images; the data sets are those of `fsc.images.data`.
"""

import time

import click
import torch

from fsc import models
from fsc.images import data
from fsc.schemes import pointwise_alone
from fsc.training import evaluate, supervised


@click.command()
@click.option("--model", default="resnet20", type=click.Choice(models.names()))
@click.option("--data", "data_name", default="cifar10", type=click.Choice(["cifar10", "digits"]))
@click.option("--epochs", default=30, type=click.IntRange(min=1))
@click.option("--rate", default=0.1)
@click.option("--seeds", default=1, type=click.IntRange(min=1))
def main(model: str, data_name: str, epochs: int, rate: float, seeds: int) -> None:
    """Print top-1 accuracy of both, a line a seed."""
    train, test = data.load(data_name, "train"), data.load(data_name, "test")
    pixels = train.images / 255
    statistics = pixels.mean((0, 1, 2)).tolist(), pixels.std((0, 1, 2)).tolist()
    images, test_images = (data.to_tensor(each.images, *statistics) for each in (train, test))
    labels, test_labels = (torch.from_numpy(each.labels) for each in (train, test))
    print(f"{model} on {data_name}, {len(images)} images, {epochs} epochs; top-1 % (CPU seconds)")
    for seed in range(seeds):
        torch.manual_seed(seed)
        whole = models.build(model, in_channels=images.shape[1])
        for name, network in {"all weights": whole, "1x1 alone": pointwise_alone(whole)}.items():
            start = time.process_time()
            supervised.train(
                network,
                images,
                labels,
                epochs=epochs,
                learning_rate=rate,
                shift=4 if data_name == "cifar10" else 1,
                mirror=data_name == "cifar10",
                seed=seed,
            )
            seconds = time.process_time() - start
            top1 = evaluate.accuracy(network, test_images, test_labels)
            print(f"  seed {seed}  {name:<12}{top1:6.2f}  ({seconds:.0f})", flush=True)


if __name__ == "__main__":
    main()
