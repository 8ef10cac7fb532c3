"""Every verb with its options: what can be typed, without what does the work.

The work is imported when a verb is called, so that help costs no torch.
"""

from __future__ import annotations

from typing import Any

import click

from fsc import method_names, models
from fsc.cli import goal_options, help_pages, options, typed
from fsc.cli.parts import many_students, part
from fsc.cli.studies import analyse, grid, sweep, tradeoff


@click.command("demo", cls=help_pages.Verb)
@options.output_folder("fsc-demo")
@options.json_file("its report")
@options.overwrite
@options.seed
@options.device
def demo(**given: Any) -> None:
    """Train a small network on bundled digits and compress it by every method."""
    from fsc.cli import demo as work

    work.command(**given)


@click.command("compress", cls=help_pages.Verb)
@options.model_name
@options.data_name
@click.option(
    "--method",
    type=options.METHOD,
    default="default",
    show_default=True,
    metavar="NAME",
    help=f"How to compress: {options.METHODS_IN_HELP}; default takes minutes.",
)
@goal_options.goal
@options.draw
@options.seed
@options.output_folder()
@options.teacher_and_data
@options.resources
@options.machine
@click.option("--resume", is_flag=True, help="Go on with an interrupted run in the same folder.")
@options.json_file("the report, beside the one in the folder,")
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
@options.latency
@options.compiled("too")
@click.option(
    "--report",
    "page_path",
    type=typed.WRITTEN_FILE,
    help="Write a page for people to this file, .html: what --latency measures too, every layer, "
    "the images.",
)
def compress(**given: Any) -> None:
    """Compress a pretrained network and write the student, a report and the sample."""
    from fsc.cli import compress as work

    draw, asked = part(work.Draw, given), part(work.Asked, given)
    source, destination = part(work.Source, given), part(work.Destination, given)
    work.command(draw, asked, source, destination, part(work.Resources, given), **given)


@click.command("evaluate", cls=help_pages.Verb)
@click.argument("path", type=typed.NETWORK_PATH, required=False)
@options.data_name
@options.dense_model
@options.test_images()
@options.data_root
@options.size
@options.normalize
@options.json_file("what was measured")
@options.overwrite
@options.machine
def evaluate(**given: Any) -> None:
    """Print top-1 accuracy, parameters and FLOPs of the network in PATH.

    PATH is a .safetensors file that fsc wrote, the folder that fsc compress wrote it to, or a
    checkpoint of a dense network, which --model names. Without PATH it is the teacher that --model
    names, with the weights that compress would take.
    """
    from fsc.cli import evaluate as work

    work.command(**given)


@click.command("export", cls=help_pages.Verb)
@click.argument("path", type=typed.NETWORK_PATH)
@click.option("--onnx", "onnx_path", type=typed.WRITTEN_FILE, help="Write a file of ONNX, .onnx.")
@click.option(
    "--torch-export",
    "torch_path",
    type=typed.WRITTEN_FILE,
    help="Write a program of torch.export, .pt2.",
)
@options.dense_model
@click.option(
    "--size",
    type=typed.SIZE,
    help="Side of the images that the file will take; of SIDE:CROP the crop.  [default: as PATH or "
    "the network's library says]",
)
@options.json_file("what was found")
@options.overwrite
def export(**given: Any) -> None:
    """Write the network in PATH as a file that runs without fsc, and compare the two.

    PATH is what fsc evaluate takes. The file takes any number of images of one size; it is run for
    1 and for 7 drawn ones, and only kept where it gives what the network gives.
    """
    from fsc.cli import export as work

    work.command(**given)


@click.command("compare", cls=help_pages.Verb)
@options.model_name
@options.data_name
@goal_options.goal
@many_students(method_names.COMPARED)
@options.latency
@options.compiled("instead")
def compare(**given: Any) -> None:
    """Compare methods: accuracy over several draws, time and size, beside the papers' numbers."""
    from fsc.cli import compare as work

    draw, asked = part(work.Draw, given), part(work.Asked, given)
    source, resources = part(work.Source, given), part(work.Resources, given)
    work.command(draw, asked, source, resources, part(work.Results, given), **given)


@click.command("schemes", cls=help_pages.Verb)
@click.option(
    "--model",
    "model_names",
    type=click.Choice(models.names()),
    multiple=True,
    metavar="NAME",
    help=f"A network: {', '.join(models.names())}. May be given several times.  "
    "[default: vgg16, resnet56, resnet34, mobilenetv2]",
)
@options.json_file("the figures")
@options.overwrite
def schemes(**given: Any) -> None:
    """List the published schemes, with what they leave of a network."""
    from fsc.cli import schemes as work

    work.command(**given)


@click.command("inspect", cls=help_pages.Verb)
@options.model_name
@options.size
@options.json_file("what was found")
@options.overwrite
def inspect(**given: Any) -> None:
    """Show which channels of a network can be cut, which go together, and why others stay.

    The shapes decide, not the weights: nothing is loaded, and the network runs on one image.
    """
    from fsc.cli import inspect as work

    work.command(**given)


ALL = (demo, inspect, compress, evaluate, export, compare, schemes, analyse, sweep, tradeoff, grid)
