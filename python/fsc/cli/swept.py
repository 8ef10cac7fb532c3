"""What `fsc sweep` sweeps: the values, and what they mean for draws, settings and methods."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import click
from click.core import ParameterSource

from fsc import method_names
from fsc.cli import training_options
from fsc.cli.drawing import Draw
from fsc.cli.given import Inputs
from fsc.cli.settings import Settings
from fsc.images.sampling import FewShotSample
from fsc.sweeping import SAMPLES, settings_of

# What --over may be that is no number of images -> the hyper-parameter of methods.
_SETTINGS = {"steps": "steps", "rate": "learning_rate", "iterations": "iterations"}
LABELS = {
    "steps": "steps",
    "rate": "learning rate",
    "iterations": "passes",
    "shots": "images a class",
    "images": "images",
}
# Of a method that has no passes: it is made once, for a level beside the curves.
NO_PASS = 0.0
# What the functions that draw call the number of images.
_NUMBER = re.compile(r"^(\w+: )?num_(shots|images)\b")


@dataclass(frozen=True)
class Swept:
    """What is swept, and what the few images are where their number is not.

    Attributes:
        over: "steps", "rate", "iterations", "shots" or "images".
        values: that it takes, increasing.
        num_shots: images a class, as typed.
        num_images: images in all, as typed.
        num_ways: classes that are drawn first, as typed.
    """

    over: str
    values: tuple[float, ...]
    num_shots: int | None
    num_images: int | None
    num_ways: int | None

    def __post_init__(self) -> None:
        """Refuses numbers of steps or images that are not whole, and images given twice."""
        parts = [value for value in self.values if value != int(value)]
        if self.over != "rate" and parts:
            raise ValueError(
                f"--values must be whole numbers for --over {self.over}, got {parts[0]:g}"
            )
        if self.over not in SAMPLES:
            Draw(self.num_shots, self.num_images, self.num_ways)
            return
        if self.over == "images" and self.num_ways is not None:
            raise click.UsageError(
                f"--ways must be left out with --over images, which are of any class, got "
                f"{self.num_ways}."
            )
        for flag, number in (("--shots", self.num_shots), ("--images", self.num_images)):
            if number is not None:
                raise click.UsageError(
                    f"{flag} must be left out with --over {self.over}, whose --values say it, got "
                    f"{number}."
                )

    def check(self, methods: Sequence[str], *, joins: bool = False) -> None:
        """Make sure, before anything is loaded, that all methods have what is swept.

        Args:
            methods: by name.
            joins: whether they join runs that are there already.

        Raises:
            ValueError: one has not, or steps are given twice.
        """
        if self.over == "steps" and _is_typed("mir_steps"):
            raise ValueError(
                "--mir-steps must be left out with --over steps, whose --values it is, got "
                f"{click.get_current_context().params['mir_steps']}"
            )
        training_options.check(methods, joins=joins)
        setting = _SETTINGS.get(self.over)
        others = [name for name in methods if setting and not _has(name, setting)]
        # Beside a method that has passes all others are levels.
        if others and (self.over != "iterations" or len(others) == len(methods)):
            able = ", ".join(name for name in method_names.NAMES if _has(name, str(setting)))
            raise ValueError(
                f"--method must have what is swept with --over {self.over}, one of {able}, got "
                f"{', '.join(others)}"
            )

    def draw(self, value: float) -> Draw:
        """The few images at a value."""
        if self.over == "shots":
            return Draw(int(value), None, self.num_ways)
        if self.over == "images":
            return Draw(None, int(value), self.num_ways)
        return Draw(self.num_shots, self.num_images, self.num_ways)

    def largest_sample(self, inputs: Inputs) -> FewShotSample:
        """The draw that fails where any would: other seeds change which images, not how many.

        Raises:
            ValueError: there are fewer images than that, or none of them has a class.
        """
        if self.over == "shots" and not inputs.train.classes:
            raise ValueError(
                f"--over must be images where images have no classes, as in {inputs.data_title}, "
                "got shots"
            )
        try:
            return self.draw(self.values[-1]).sample(inputs, seed=0)
        except ValueError as error:
            if self.over not in SAMPLES:
                raise
            raise ValueError(_NUMBER.sub("--values", str(error))) from error

    def values_of(self, method: str) -> tuple[float, ...]:
        """What is swept of a method: all values, or none where it has no passes to sweep."""
        is_level = self.over == "iterations" and method not in method_names.WITH_PASSES
        return (NO_PASS,) if is_level else self.values

    def settings(self, value: float, settings: Settings) -> Settings:
        """The settings at a value."""
        if self.over == "steps":
            return replace(settings, mir_steps=int(value), default_steps=int(value))
        if self.over == "iterations":
            return replace(settings, iterations=int(value) or None)
        return replace(settings, learning_rate=value) if self.over == "rate" else settings

    def in_words(self, value: float) -> str:
        """A value with what it is."""
        if value == NO_PASS:
            return ""
        return f"{LABELS[self.over]} {value:g}"

    @property
    def identity(self) -> dict[str, Any]:
        """What two sweeps must share, beside what two comparisons must."""
        typed = {"shots": self.num_shots, "ways": self.num_ways, "images": self.num_images}
        return {"over": self.over} | typed | ({"mir_steps": None} if self.over == "steps" else {})


def _is_typed(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is ParameterSource.COMMANDLINE


def _has(method: str, setting: str) -> bool:
    known = {"steps": method_names.WITH_STEPS, "iterations": method_names.WITH_PASSES}
    if setting in known:
        return method in known[setting]
    return setting in settings_of(method_names.named(method))
