"""Options that say how methods that train do it."""

from __future__ import annotations

from collections.abc import Sequence

import click
from click.core import ParameterSource

from fsc import method_names
from fsc.images.names import FOLDER, OF_FILES, VIEWS, Augmentation

mir_steps = click.option(
    "--mir-steps",
    type=click.IntRange(min=1),
    help="Minibatches of MiR, BP, KD and FitNet (the paper takes 2000), of mir-progressive after "
    "its last pruning (4000), with a tenth of them after every other, and of default.  "
    "[default: 400; 800 for the method default]",
)
views = click.option(
    "--views",
    type=click.Choice(VIEWS),
    default=VIEWS[0],
    show_default=True,
    help="What MiR, BP, KD and FitNet are trained on: the images and their mirror images; crops, "
    "other parts of them at every step, as is usual for ImageNet; or, where no labels are learned, "
    "with hard ones, moved, recoloured and mixed. original-crops is for folder:PATH: parts of the "
    "whole files, at their own resolution.",
)
precision = click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="What methods that train run the student in; bfloat16 is for GPUs and processors that "
    "compute with it, and many times slower on others.",
)
# Each parameter, its flag, and the methods that take it.
_OF_TRAINING = (
    ("mir_steps", "--mir-steps", method_names.WITH_STEPS),
    ("views", "--views", method_names.WITH_VIEWS),
    ("precision", "--precision", method_names.WITH_TRAINING),
)


def check(methods: Sequence[str], *, joins: bool = False) -> None:
    """Make sure that these options, where they are typed, are for a method that takes them.

    Args:
        methods: by name.
        joins: whether they join runs that are there already, which may have taken them.

    Raises:
        ValueError: none of the methods does, or files are to be cropped and there are none.
    """
    context = click.get_current_context()
    if context.params["views"] == OF_FILES:
        _check_files(context.params["data_name"], context.params["augment"])
    for name, flag, takers in _OF_TRAINING:
        is_typed = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if is_typed and not joins and not any(method in takers for method in methods):
            raise ValueError(
                f"{flag} must go with --method {' or '.join(takers)}, got "
                f"{context.params[name]} for {', '.join(methods)}"
            )


def _check_files(data_name: str, augment: Augmentation | None) -> None:
    if not data_name.startswith(FOLDER):
        raise ValueError(
            f"--views {OF_FILES} must go with --data {FOLDER}PATH, whose files are cropped, got "
            f"{data_name}"
        )
    if augment is not None:
        raise ValueError(
            f"--augment must be left out with --views {OF_FILES}: images that are added have no "
            f"files, got {augment}"
        )
