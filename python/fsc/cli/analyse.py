"""`fsc analyse`: where students differ from their teacher, layer by layer, on test images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import click
from torch import nn

from fsc import method_names
from fsc.cli import correlations, distances, matrices, recoveries, tables, typed
from fsc.cli.drawing import Draw
from fsc.cli.goals import Asked, check_kinds
from fsc.cli.inputs import Source
from fsc.cli.outputs import Results
from fsc.cli.progress import Reporter
from fsc.cli.run import check_labels, make_student
from fsc.cli.settings import Settings
from fsc.cli.trial import Findings, Trial, begun
from fsc.files import write_json
from fsc.images.names import Augmentation
from fsc.result import Result
from fsc.schemes import Decoupling, DropBlocks
from fsc.wording import shown


@dataclass(frozen=True)
class Measured:
    """What is measured of which students, as it is typed.

    Attributes:
        measure: one of `typed.MEASURES`.
        layer: whose matrix is drawn.
        methods: that make the students; none typed: those of the measure.
    """

    measure: str
    layer: str | None
    methods: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuses a layer without its measure, and methods that it cannot have."""
        is_pointwise = self.measure == "pointwise"
        if is_pointwise and self.layer is None:
            raise click.UsageError("--layer must be given with --measure pointwise, got none.")
        if not is_pointwise and self.layer is not None:
            raise click.UsageError(
                f"--layer must go with --measure pointwise, got {self.layer} with {self.measure}."
            )
        others = [name for name in self.methods if name not in method_names.BY_NORM]
        if self.measure == "blocks" and others:
            raise ValueError(
                "--method must recover a student with the channels of l1 for --measure blocks, as "
                f"{', '.join(method_names.BY_NORM)} do, got {', '.join(others)}"
            )

    def check(self, trial: Trial) -> None:
        """Make sure, before any student is made, that it can be measured.

        Raises:
            ValueError: its layers are others than the teacher's, or the teacher has no such layer.
        """
        scheme, inputs = trial.goal.scheme, trial.inputs
        if self.measure == "distances" and isinstance(scheme, Decoupling | DropBlocks):
            raise ValueError(
                f"--measure must be {', '.join(typed.MEASURES[1:])} where students have "
                f"other layers than the teacher, as by scheme {scheme.name!r}, got distances"
            )
        if self.layer is None:
            return
        modules = dict(inputs.teacher.named_modules())
        whole, _, half = self.layer.rpartition(".")
        if half in ("depthwise", "pointwise") and self.layer not in modules and whole in modules:
            raise ValueError(
                f"--layer must name the layer as {inputs.model_title} has it, {whole!r}, got "
                f"{shown(self.layer)}, which is only in its decoupled students"
            )
        module = modules.get(self.layer)
        if type(module) is not nn.Conv2d or module.groups != 1:
            told = "none" if module is None else type(module).__name__
            raise ValueError(
                f"--layer must name a Conv2d of one group of {inputs.model_title}, got {told} at "
                f"{self.layer!r}"
            )

    @property
    def made(self) -> tuple[str, ...]:
        """The methods of all students that are made, each once."""
        by_default = ("l1", "fskd") if self.measure != "distances" else method_names.ANALYSED
        methods = self.methods or by_default
        if self.measure == "blocks":
            methods = (method_names.DATA_FREE, *methods)
        return tuple(dict.fromkeys(methods))


def command(
    draw: Draw,
    asked: Asked,
    source: Source,
    results: Results,
    measured: Measured,
    num_test: int,
    seed: int,
    augment: Augmentation | None,
) -> None:
    """Make students and measure them on test images."""
    asked.check_methods(measured.made)
    results.hold()
    trial = begun("analyse", source, asked.goal, draw, num_test, seed)
    measured.check(trial)
    check_labels(measured.made, trial.inputs, augment)
    settings = Settings(trial.goal, augment=augment)
    check_kinds(measured.made, settings.goal)
    with Reporter() as reporter:
        for line in trial.inputs.notes:
            reporter.say(line)
        made = {
            method: make_student(method, trial.inputs, trial.sample, settings, reporter)
            for method in measured.made
        }
        findings = _findings(measured, trial, made, reporter)
    if results.json_path is not None:
        write_json(results.json_path, trial.draw.identity | {"students": findings.students})
    if results.figure_path is not None:
        findings.draw(results.figure_path)
    tables.show(*findings.tables)
    tables.show_written(results.json_path, results.figure_path)


def _findings(
    measured: Measured, trial: Trial, made: Mapping[str, Result], reporter: Reporter
) -> Findings:
    """What is measured of the students that were made, by method."""
    if measured.measure == "correlation":
        return correlations.findings(trial, made, reporter)
    if measured.measure == "blocks":
        return recoveries.findings(trial, made, reporter)
    if measured.layer is not None:
        return matrices.findings(trial, made, measured.layer)
    return distances.findings(trial, made, reporter)
