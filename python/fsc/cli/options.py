"""Options that several verbs share."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fsc import method_names, models
from fsc.cli import locks, quietness, several, training_options, typed
from fsc.models.factories import FORMS
from fsc.report import figure
from fsc.walking import heap
from fsc.wording import shown

if TYPE_CHECKING:
    import torch

Command = TypeVar("Command", bound=Callable[..., Any])


def _set_threads(context: click.Context, parameter: click.Parameter, value: int | None) -> None:
    import torch

    if value is not None:
        torch.set_num_threads(value)


def _usable(context: click.Context, parameter: click.Parameter, value: str) -> torch.device:
    """The device of that name, once an operator has given back a number from there."""
    import torch

    import fsc_ext

    try:
        wanted = torch.device(several.own_device(value))
    except RuntimeError as error:  # lists every kind that torch has ever had
        raise ValueError(
            f"--device must be cpu, or a device as torch calls it, such as cuda or cuda:1, got "
            f"{shown(value)}"
        ) from error
    try:
        probe = fsc_ext.prox_l1(torch.zeros(1, device=wanted), 0.0)
        probe.item()
    except (RuntimeError, AssertionError, ImportError) as error:  # torch has one for each device
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise ValueError(
            f"--device must be a device that torch and fsc_ext can use here, got {shown(value)}: "
            f"{reason}"
        ) from error
    return probe.device


def _budget(
    context: click.Context, parameter: click.Parameter, value: float | None
) -> float | None:
    if value is None:
        heap.keep()
    elif not math.isfinite(value):
        raise ValueError(f"{parameter.opts[0]} must be a finite number, got {value}")
    return value


data_name = click.option(
    "--data",
    "data_name",
    type=typed.DATA,
    metavar=typed.DATA.name,
    required=True,
    help="Data set, or folder:PATH: train/ and val/ (or test/) with a folder for each class, one "
    "such folder, or images without labels; JPEG, PNG and WebP.",
)
size = click.option(
    "--size",
    type=typed.SIZE,
    help="For folder:PATH: resize the shorter side to CROP pixels, or to SIDE, and cut the middle "
    "CROP x CROP out; networks for ImageNet mostly take 256:224.  [default: as timm, torchvision "
    "or the network's file say, else as large as they are]",
)
normalize = click.option(
    "--normalize",
    type=typed.NORMALIZATION,
    metavar=typed.NORMALIZATION.name,
    help="imagenet, or numbers for each channel, as in 0.5,0.5,0.5/0.2,0.2,0.2 for values between "
    "0 and 1; where one is above 1, as in 127/128, all are for values up to 255.  [default: as "
    "timm, torchvision or the network's file say, else imagenet]",
)
data_root = click.option(
    "--data-root",
    type=typed.DATA_ROOT,
    help="Folder of the data and checkpoints.  [default: $FSC_DATA]",
)
model_name = click.option(
    "--model",
    "model_name",
    type=typed.MODEL,
    metavar=typed.MODEL.name,
    required=True,
    help=f"The teacher: {', '.join(models.names())}, {FORMS}, which is run and returns a network.",
)
dense_model = click.option(
    "--model",
    "model_name",
    type=typed.MODEL,
    metavar=typed.MODEL.name,
    help="The network of a plain checkpoint, or the one that a student of your own was made from; "
    "other files of fsc name it themselves.",
)
checkpoint_path = click.option(
    "--checkpoint",
    "checkpoint_path",
    type=typed.READ_FILE,
    help="The teacher's weights.  [default: by name in the folder of the data; for torchvision and "
    "timm the library's own, which it fetches; for a file what its function gives]",
)
num_shots = click.option("--shots", "num_shots", type=click.IntRange(min=1), help="Images a class.")
num_ways = click.option(
    "--ways",
    "num_ways",
    type=click.IntRange(min=1),
    help="Draw so many classes, among those with enough images, and --shots images of each.  "
    "[default: all classes]",
)
num_images = click.option(
    "--images",
    "num_images",
    type=click.IntRange(min=1),
    help="Images in all, drawn without regard to classes; instead of --shots.",
)
figure_path = click.option(
    "--output", "figure_path", type=typed.WRITTEN_FILE, help="Draw a figure: .png, .pdf or .svg."
)
augment = click.option(
    "--augment",
    type=typed.AUGMENT,
    metavar=typed.AUGMENT.name,
    help="Add images made from the given ones: one of each, or so many copies, as in mixup:7.  "
    "[default: none]",
)
batch_size = click.option(
    "--batch-size",
    type=click.IntRange(1, 2**31 - 1),  # more than torch can count
    default=64,
    show_default=True,
    help="Images that go through the networks at once; changes the result by rounding only.",
)
memory_budget = click.option(
    "--memory-budget",
    type=click.FloatRange(min=0),
    metavar="MB",
    callback=_budget,
    help="Megabytes of memory for activations. Room for six minibatches of the largest layer is "
    "kept free in it; what does not fit goes to disk. The inputs, columns or matrices that a "
    "single layer is solved from come on top.  [default: all]",
)
keep_batch_norm = click.option(
    "--keep-batch-norm",
    is_flag=True,
    help="Put BatchNorms that a method folds into convolutions back behind them, so that the "
    "student has the layers of the teacher and can be trained as it was.",
)
device = click.option(
    "--device",
    type=typed.TEXT,
    default="cpu",
    show_default=True,
    metavar="NAME",
    callback=_usable,
    help="Where to compute, such as cpu, cuda or cuda:1.",
)
threads = click.option(
    "--threads",
    # More are never of use, and tens of thousands end the process.
    type=click.IntRange(1, 1024),
    callback=_set_threads,
    expose_value=False,
    help="Threads to compute with.  [default: as torch chooses]",
)
overwrite = click.option(
    "--overwrite", is_flag=True, help="Replace results that are there already."
)
seed = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True, help="Of every draw."
)
num_seeds = click.option(
    "--seeds",
    "num_seeds",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="Number of draws; their seeds are 0, 1, ....",
)
latency = click.option(
    "--latency",
    "is_timed",
    is_flag=True,
    help="Measure the milliseconds of teacher and students too, for 1 image and for 64 at once, on "
    "one thread.",
)


def compiled(how: str) -> Callable[[Command], Command]:
    """--compiled, which times what `torch.compile` makes of the networks too, or instead."""
    return click.option(
        "--compiled",
        "is_compiled",
        is_flag=True,
        help=f"Time what torch.compile makes of the networks {how}: some minutes more for each.",
    )


resume = click.option(
    "--resume", is_flag=True, help="Keep the runs that the JSON file holds already."
)
quiet = click.option(
    "--quiet",
    is_flag=True,
    expose_value=False,
    callback=quietness.remember,
    help="No progress and no tables; warnings and errors stay.",
)
METHOD = click.Choice(method_names.NAMES)
METHODS_IN_HELP = f"{', '.join(method_names.NAMES[:-1])} or {method_names.NAMES[-1]}"


def together(*several: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one, in their order."""

    def add(command: Command) -> Command:
        for option in reversed(several):
            command = option(command)
        return command

    return add


teacher_and_data = together(checkpoint_path, data_root, size, normalize)
resources = together(
    training_options.mir_steps,
    training_options.views,
    training_options.precision,
    augment,
    batch_size,
    memory_budget,
    keep_batch_norm,
)
draw = together(num_shots, num_ways, num_images)
machine = together(device, threads)


def json_file(content: str) -> Callable[[Command], Command]:
    """Option for the file that what a verb found goes to, in words."""
    return click.option(
        "--json", "json_path", type=typed.WRITTEN_FILE, help=f"Write {content} to this file."
    )


def test_images(default: int | None = None) -> Callable[[Command], Command]:
    """Option for how many test images to evaluate on; all of them where there is no default."""
    return click.option(
        "--test-images",
        "num_test",
        type=click.IntRange(min=1),
        default=default,
        show_default=default is not None,
        help="Evaluate on so many of the test images, evenly spaced among all."
        + ("" if default is not None else "  [default: all]"),
    )


def output_folder(default: str | None = None) -> Callable[[Command], Command]:
    """Option for the folder that results go to; required where there is no default."""
    return click.option(
        "--output",
        type=typed.WRITTEN_FOLDER,
        required=default is None,
        default=default,
        show_default=default is not None,
        help="Folder for the results.",
    )


def check_outputs(json_path: Path | None, figure_path: Path | None, *, replacing: bool) -> None:
    """Make sure, before any work, that both files can be written where they are given.

    Args:
        json_path: what --json names.
        figure_path: what --output names.
        replacing: whether files that are there already may be replaced.

    Raises:
        OSError, ValueError: what `locks.hold_file` raises, or the figure's name ends in no kind
            that can be drawn.
    """
    if figure_path is not None:
        figure.check_name(figure_path)
    locks.hold_files({"--json": json_path, "--output": figure_path}, replacing=replacing)
