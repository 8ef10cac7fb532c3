"""Verbs that look at methods and students instead of making one; see `commands`."""

from __future__ import annotations

from typing import Any

import click

from fsc import method_names
from fsc.cli import goal_options, help_pages, options, typed
from fsc.cli.parts import many_students, methods, part


@click.command("analyse", cls=help_pages.Verb)
@options.model_name
@options.data_name
@click.option(
    "--measure",
    type=click.Choice(typed.MEASURES),
    default=typed.MEASURES[0],
    show_default=True,
    help="distances: of every layer's output from the teacher's (CD, Fig. 2 and 3), smaller is "
    "better, and those of the other methods divided by those of the first, where below 1 is "
    "better; correlation: with the teacher where blocks end (FSKD, Fig. 3a), nearer to 1 is "
    "better; blocks: accuracy with the first blocks recovered and the others as l1 leaves them "
    "(Fig. 3b), higher is better; pointwise: the pointwise matrix of a layer (Fig. 8).",
)
@click.option(
    "--layer", type=typed.TEXT, metavar="NAME", help="The convolution of --measure pointwise."
)
@goal_options.goal
@options.draw
@methods(told=f"{', '.join(method_names.ANALYSED)} for distances, else l1 and fskd")
@options.test_images(1000)
@options.seed
@options.json_file("what is measured")
@options.figure_path
@options.overwrite
@options.teacher_and_data
@options.augment
@options.machine
def analyse(**given: Any) -> None:
    """Measure students on test images, layer by layer, in tables and a figure."""
    from fsc.cli import analyse as work

    draw, asked = part(work.Draw, given), part(work.Asked, given)
    source, measured = part(work.Source, given), part(work.Measured, given)
    work.command(draw, asked, source, part(work.Results, given), measured, **given)


@click.command("sweep", cls=help_pages.Verb)
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
@many_students(["mir-before"])
def sweep(**given: Any) -> None:
    """Show accuracy against steps, rate, passes or number of images, in a table and a figure."""
    from fsc.cli import sweep as work

    swept, asked = part(work.Swept, given), part(work.Asked, given)
    source, resources = part(work.Source, given), part(work.Resources, given)
    work.command(swept, asked, source, resources, part(work.Results, given), **given)


@click.command("tradeoff", cls=help_pages.Verb)
@options.model_name
@options.data_name
@goal_options.several_targets
@many_students(["default"])
@options.compiled("instead")
def tradeoff(**given: Any) -> None:
    """Show accuracy against measured latency for several targets, in a table and a figure."""
    from fsc.cli import tradeoff as work

    targets, draw = part(work.Targets, given), part(work.Draw, given)
    source, resources = part(work.Source, given), part(work.Resources, given)
    work.command(targets, draw, source, resources, part(work.Results, given), **given)


@click.command("grid", cls=help_pages.Verb)
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
@options.json_file("every accuracy")
@options.figure_path
@options.overwrite
@options.teacher_and_data
@options.machine
def grid(**given: Any) -> None:
    """Compress with every weight of a loss on a grid and evaluate each student."""
    from fsc.cli import grid as work

    draw, source = part(work.Draw, given), part(work.Source, given)
    work.command(draw, source, part(work.Results, given), **given)
