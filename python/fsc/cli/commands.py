"""Every verb with its options: what can be typed, without what does the work.

The work is imported when a verb is called, so that help costs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import click

from fsc import method_names, models
from fsc.cli import goal_options, options, typed

Part = TypeVar("Part")


def _part(kind: Callable[..., Part], given: dict[str, Any]) -> Part:
    """An object of the options that are its fields, which are taken out of those given."""
    return kind(**{field.name: given.pop(field.name) for field in fields(kind)})  # type: ignore[arg-type]


def _methods(default: Sequence[str], more: str = "") -> Callable[..., Any]:
    return click.option(
        "--method",
        "methods",
        type=options.METHOD,
        multiple=True,
        default=default,
        show_default=True,
        help=f"May be given several times{more}.",
    )


@click.command("demo")
@options.output_folder("fsc-demo")
@options.overwrite
@options.seed
@options.device
def demo(**given: Any) -> None:
    """Train a small network on bundled digits and compress it by every method."""
    from fsc.cli import demo as work

    work.command(**given)


@click.command("compress")
@options.model_name
@options.data_name
@click.option(
    "--method",
    type=options.METHOD,
    default="default",
    show_default=True,
    help="How to compress; default takes minutes.",
)
@goal_options.goal
@options.draw
@options.seed
@options.output_folder()
@options.teacher_and_data
@options.resources
@options.machine
@click.option("--resume", is_flag=True, help="Go on with an interrupted run in the same folder.")
@options.overwrite
@options.test_images()
@click.option(
    "--no-evaluate",
    "evaluated",
    flag_value=False,
    default=True,
    help="Leave student and teacher unevaluated.",
)
@click.option("--layers", "all_layers", is_flag=True, help="Show the error of every layer.")
def compress(**given: Any) -> None:
    """Compress a pretrained network and write the student, a report and the sample."""
    from fsc.cli import compress as work

    draw, asked = _part(work.Draw, given), _part(work.Asked, given)
    source, destination = _part(work.Source, given), _part(work.Destination, given)
    work.command(draw, asked, source, destination, _part(work.Resources, given), **given)


@click.command("evaluate")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@options.data_name
@click.option(
    "--model",
    "model_name",
    type=typed.MODEL,
    metavar=typed.MODEL.name,
    help="The network of a plain checkpoint, or the one that a student of your own was made from; "
    "other files of fsc name it themselves.",
)
@options.test_images()
@options.data_root
@options.size
@options.normalize
@options.machine
def evaluate(**given: Any) -> None:
    """Print top-1 accuracy, parameters and FLOPs of the network in PATH.

    PATH is a .safetensors file that fsc wrote, the folder that fsc compress wrote it to, or a
    checkpoint of a dense network, which --model names. Without PATH it is the teacher that --model
    names, with the weights that compress would take.
    """
    from fsc.cli import evaluate as work

    work.command(**given)


@click.command("compare")
@options.model_name
@options.data_name
@goal_options.goal
@options.draw
@options.num_seeds
@_methods(method_names.COMPARED)
@click.option("--json", "json_path", type=options.FILE, help="Write every run to this file.")
@options.resume
@options.figure_path
@options.overwrite
@options.test_images()
@click.option(
    "--latency",
    "is_timed",
    is_flag=True,
    help="Measure the milliseconds of teacher and students too, for 1 image and for 64 at once, on "
    "one thread.",
)
@options.teacher_and_data
@options.resources
@options.machine
def compare(**given: Any) -> None:
    """Compare methods: accuracy over several draws, time and size, beside the papers' numbers."""
    from fsc.cli import compare as work

    draw, asked = _part(work.Draw, given), _part(work.Asked, given)
    source, resources = _part(work.Source, given), _part(work.Resources, given)
    work.command(draw, asked, source, resources, _part(work.Results, given), **given)


@click.command("schemes")
@click.option(
    "--model",
    "model_names",
    type=click.Choice(models.names()),
    multiple=True,
    help="May be given several times.  [default: vgg16, resnet56, resnet34, mobilenetv2]",
)
@click.option("--json", "json_path", type=options.FILE, help="Write the figures to this file.")
@options.overwrite
def schemes(**given: Any) -> None:
    """List the published schemes, with what they leave of a network."""
    from fsc.cli import schemes as work

    work.command(**given)


@click.command("analyse")
@options.model_name
@options.data_name
@click.option(
    "--measure",
    type=click.Choice(method_names.MEASURES),
    default=method_names.MEASURES[0],
    show_default=True,
    help="Estimation errors and inconsistencies of every layer (CD, Fig. 2 and 3), the others "
    "divided by those of the first method; correlation with the teacher where blocks end (FSKD, "
    "Fig. 3a); accuracy with the first blocks recovered and the others only pruned (Fig. 3b); the "
    "pointwise matrix of a layer (Fig. 8).",
)
@click.option("--layer", metavar="NAME", help="The convolution of --measure pointwise.")
@goal_options.goal
@options.draw
@click.option(
    "--method",
    "methods",
    type=options.METHOD,
    multiple=True,
    help="May be given several times.  "
    f"[default: {', '.join(method_names.ANALYSED)} for distances, else l1 and fskd]",
)
@options.test_images(1000)
@options.seed
@click.option("--json", "json_path", type=options.FILE, help="Write what is measured to this file.")
@options.figure_path
@options.overwrite
@options.teacher_and_data
@options.augment
@options.machine
def analyse(**given: Any) -> None:
    """Measure students on test images, layer by layer, in tables and a figure."""
    from fsc.cli import analyse as work

    draw, asked = _part(work.Draw, given), _part(work.Asked, given)
    source, measured = _part(work.Source, given), _part(work.Measured, given)
    work.command(draw, asked, source, _part(work.Results, given), measured, **given)


@click.command("sweep")
@options.model_name
@options.data_name
@click.option(
    "--over",
    type=click.Choice(["steps", "rate", "iterations", "shots", "images"]),
    required=True,
    help="What is swept: minibatches or learning rate of methods that train, passes of fskd over "
    "all layers, with the other methods as levels, images a class, or images in all; of images the "
    "smaller numbers are part of the larger ones.",
)
@click.option(
    "--values",
    type=typed.VALUES,
    metavar=typed.VALUES.name,
    required=True,
    help="What it takes, as in 100,200,400.",
)
@goal_options.goal
@options.draw
@options.num_seeds
@_methods(["mir-before"])
@click.option("--json", "json_path", type=options.FILE, help="Write every run to this file.")
@options.resume
@options.figure_path
@options.overwrite
@options.test_images()
@options.teacher_and_data
@options.resources
@options.machine
def sweep(**given: Any) -> None:
    """Show accuracy against steps, rate, passes or number of images, in a table and a figure."""
    from fsc.cli import sweep as work

    swept, asked = _part(work.Swept, given), _part(work.Asked, given)
    source, resources = _part(work.Source, given), _part(work.Resources, given)
    work.command(swept, asked, source, resources, _part(work.Results, given), **given)


@click.command("tradeoff")
@options.model_name
@options.data_name
@goal_options.several_targets
@options.draw
@options.num_seeds
@_methods(["default"])
@click.option("--json", "json_path", type=options.FILE, help="Write every run to this file.")
@options.resume
@options.figure_path
@options.overwrite
@options.test_images()
@options.teacher_and_data
@options.resources
@options.machine
def tradeoff(**given: Any) -> None:
    """Show accuracy against measured latency for several targets, in a table and a figure."""
    from fsc.cli import tradeoff as work

    targets, draw = _part(work.Targets, given), _part(work.Draw, given)
    source, resources = _part(work.Source, given), _part(work.Resources, given)
    work.command(targets, draw, source, resources, _part(work.Results, given), **given)


@click.command("grid")
@options.model_name
@options.data_name
@goal_options.scheme_name
@options.draw
@click.option(
    "--objective",
    "objective_name",
    type=click.Choice(["convex", "soft"]),
    required=True,
    help="mu of the convex combination, or alpha and beta of soft cross distillation.",
)
@click.option(
    "--intervals",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Equal parts that [0, 1] is cut into.",
)
@options.test_images(10_000)
@options.seed
@click.option("--json", "json_path", type=options.FILE, help="Write every accuracy to this file.")
@options.figure_path
@options.overwrite
@options.teacher_and_data
@options.machine
def grid(**given: Any) -> None:
    """Compress with every weight of a loss on a grid and evaluate each student."""
    from fsc.cli import grid as work

    draw, source = _part(work.Draw, given), _part(work.Source, given)
    work.command(draw, source, _part(work.Results, given), **given)


@click.command("inspect")
@options.model_name
@options.size
@click.option("--json", "json_path", type=options.FILE, help="Write what was found to this file.")
@options.overwrite
def inspect(**given: Any) -> None:
    """Show which channels of a network can be cut, which go together, and why others stay.

    The shapes decide, not the weights: nothing is loaded, and the network runs on one image.
    """
    from fsc.cli import inspect as work

    work.command(**given)


ALL = (demo, inspect, compress, evaluate, compare, schemes, analyse, sweep, tradeoff, grid)
