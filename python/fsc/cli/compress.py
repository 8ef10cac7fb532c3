"""`fsc compress`: one teacher, one method, one student on disk."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import click

from fsc import ranks
from fsc.cli import (
    evaluation,
    gains,
    outputs,
    pages,
    resumption,
    several,
    tables,
    timing,
    training_options,
)
from fsc.cli.drawing import Draw
from fsc.cli.evaluation import Measured, Wanted
from fsc.cli.given import Inputs
from fsc.cli.goals import Asked
from fsc.cli.inputs import Source
from fsc.cli.outputs import Destination
from fsc.cli.progress import Reporter
from fsc.cli.run import check_labels, describe, header_for, make_student
from fsc.cli.settings import Resources, Settings
from fsc.files import Writers, write_json, write_together
from fsc.goal import Goal
from fsc.images.sampling import FewShotSample
from fsc.methods.training_state import in_words
from fsc.model_card import card
from fsc.model_folder import CARD_FILE, MODEL_FILE, writers
from fsc.networks import cost
from fsc.result import Result
from fsc.warning import CompressionWarning

_NUM_WORST_LAYERS = 5


def command(
    draw: Draw,
    asked: Asked,
    source: Source,
    destination: Destination,
    resources: Resources,
    method: str,
    seed: int,
    all_layers: bool,
    num_test: int | None,
    evaluated: bool,
    is_timed: bool,
    is_compiled: bool,
) -> None:
    """Compress a pretrained network and write the student, a report and the sample."""
    if num_test is not None and not evaluated:
        raise click.UsageError(
            f"Give either --test-images or --no-evaluate, got --test-images {num_test} and "
            "--no-evaluate."
        )
    training_options.check([method])
    asked.check_methods([method])
    with several.group(source.device):
        # Of several processes the first alone holds and writes the folder.
        ranks.first(destination.hold)
        inputs = source.load().evaluated_on(num_test)
        evaluated = evaluated and len(inputs.test_images) > 0
        if evaluated:
            inputs.check_scores()
        check_labels([method], inputs, resources.augment, resources.views)
        if is_compiled:
            ranks.first(lambda: timing.check_compiles(inputs))
        goal, sample = asked.goal(inputs), draw.sample(inputs, seed)
        then = _then(inputs, evaluated)
        made = _make(
            method, inputs, sample, resources.settings(goal, destination.journal), destination, then
        )
    if not several.is_first():
        return
    # A page tells of times as well.
    is_timed = is_timed or is_compiled or destination.page_path is not None
    measured = _measured(made, destination, Wanted(evaluated, is_timed, is_compiled))
    # Last: whoever reads it may be gone.
    made.show(measured, all_layers=all_layers)
    _show_written(destination)


def _make(
    method: str,
    inputs: Inputs,
    sample: FewShotSample,
    settings: Settings,
    destination: Destination,
    then: str,
) -> _Made:
    """A student that is written already: an interrupted evaluation must not cost it.

    Args:
        method: of the run, as are the next three.
        inputs: teacher and images.
        sample: the few images.
        settings: goal and resources.
        destination: where it goes.
        then: what comes afterwards, in words.
    """
    output = destination.output
    ranks.first(lambda: outputs.check_space(inputs, sample.num_images, settings, output, [method]))
    journal, begun = ranks.first(
        lambda: resumption.take_up(destination, method, inputs, sample, settings)
    )
    with Reporter() as reporter:
        intention = _intention(method, inputs, settings.goal, sample, then)
        reporter.say(tables.wrapped(*filter(None, (*inputs.notes, intention, begun))))
        try:
            result = make_student(method, inputs, sample, settings, reporter)
            made = _Made(method, inputs, sample, settings.goal.round_to, result)
            ranks.first(lambda: made.write_or_rescue(output, journal.signature()))
        except ranks.RankLost as lost:
            kept = _kept(destination.journal) or "nothing was written"
            raise ranks.RankLost(lost.lost, f"; {kept}") from lost
        except KeyboardInterrupt:
            raise KeyboardInterrupt(_unfinished(destination.journal)) from None
    return made


@dataclass(frozen=True)
class _Made:
    """A student, with all that is written and said of it."""

    method: str
    inputs: Inputs
    sample: FewShotSample
    round_to: int
    result: Result

    def report(self) -> dict[str, Any]:
        """What its report holds before anything is measured of it."""
        return describe(self.method, self.result.report, self.sample, self.inputs)

    def write_or_rescue(self, folder: Path, signature: Writers) -> None:
        """Write it, into a temporary folder where that fails.

        Raises:
            OSError: it failed; the sentence says where the student is.
        """
        try:
            # Signed as unfinished until what is measured of it stands in its report too.
            self.write(folder, signature)
        except OSError as error:
            kept = outputs.rescue(lambda temporary: self.write(temporary, {}))
            raise OSError(f"{error}; {kept}") from error

    def write(self, folder: Path, signature: Writers) -> None:
        """Write network, report and sample, with what signs them as unfinished."""
        # A model without its report tells nobody where it came from: all files or none.
        write_together(
            {
                **signature,
                folder / "report.json": lambda path: write_json(path, self.report()),
                folder / "samples.json": self.sample.save,
                **writers(folder, self.result.student, self.header, self.card({})),
            }
        )

    @cached_property
    def header(self) -> dict[str, Any]:
        """What the file of the student says of it, and `config.json` too."""
        known = {"method": self.method, "scheme": self.result.report.scheme}
        return header_for(self.result.student, self.inputs, **known)

    def card(self, measured: Mapping[str, float]) -> str:
        """The text of `README.md`, with what was measured in words."""
        return card(self.header, self.result.report, measured)

    def measure(self, destination: Destination, reporter: Reporter, wanted: Wanted) -> Measured:
        """Measure it, once it is written.

        Raises:
            KeyboardInterrupt, ValueError: with the sentence that the student is there all the same.
        """
        path, given = destination.output / MODEL_FILE, (self.inputs, self.result.student)
        try:
            crowded = gains.crowded(self.inputs) if wanted.batch else None
            possible = wanted if crowded is None else Wanted(wanted.accuracy)
            if crowded is not None and wanted.compiled:
                crowded += "; nothing is compiled"
            measured = evaluation.measure(*given, path, reporter, possible)
            if not wanted.batch:
                return measured
            said = (crowded, gains.folded(self.inputs.teacher, self.result.student))
            doubt = gains.doubt(measured, self.result.report, self.round_to)
            return replace(
                measured,
                said=(*measured.said, *(each for each in said if each is not None)),
                warnings=() if doubt is None else (doubt,),
            )
        except (KeyboardInterrupt, ValueError, OSError) as error:
            missing = "only what is measured of it is missing"
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(_whole(destination, missing)) from None
            missing += ", once that is mended"
            raise ValueError(f"{error}; {_whole(destination, missing)}") from error

    def show(self, measured: Measured, *, all_layers: bool) -> None:
        """Print its layers, and the table of student and teacher."""
        report, inputs = self.result.report, self.inputs
        teacher = cost.size(inputs.teacher, inputs.example)
        student = cost.Size(report.parameters, report.nonzero, report.flops)
        rows = [
            measured.row("teacher", teacher, [], of_teacher=True),
            measured.row(self.method, student, [report.seconds], of_teacher=False),
        ]
        if report.layers:
            tables.show(tables.layers(report.layers, None if all_layers else _NUM_WORST_LAYERS))
        title = f"{inputs.model_title} on {inputs.data_title}, not evaluated"
        if measured.accuracy is not None:
            title = f"{inputs.model_title} on {inputs.test_name}"
        stays = tables.what_stays(report.scheme, inputs.known_as, teacher, student)
        tables.show(tables.networks(title, rows, tables.wrapped(*stays, *measured.notes)))


def _measured(made: _Made, destination: Destination, wanted: Wanted) -> Measured:
    """What is measured of a student, which then stands in its report."""
    with Reporter() as reporter:
        measured = made.measure(destination, reporter, wanted)
    for warning in measured.warnings:
        warnings.warn(warning, CompressionWarning, stacklevel=3)
    _finish(made, measured, destination)
    return measured


def _show_written(destination: Destination) -> None:
    names = ", ".join(outputs.STUDENT)
    tables.show(tables.wrapped(f"Written to {destination.output}: {names}"))
    tables.show_written(destination.page_path)
    tables.show_written(destination.json_path)


def _finish(made: _Made, measured: Measured, destination: Destination) -> None:
    folder, report = destination.output, made.report() | measured.to_dict()
    report["warnings"] = [*report["warnings"], *measured.warnings]
    text = made.card(measured.in_words(made.inputs.test_name))
    reports = [folder / "report.json", *filter(None, [destination.json_path])]
    found: Writers = {
        **{path: partial(write_json, value=report) for path in reports},
        folder / CARD_FILE: lambda path: path.write_text(text, encoding="utf-8"),
    }
    try:
        write_together(found)
        if destination.page_path is not None:
            pages.write(destination.page_path, report, made.inputs, made.sample, measured)
    except OSError as error:
        raise OSError(f"{error}; {_whole(destination, 'only this is missing')}") from error
    # With it an interrupted evaluation was taken up without solving again.
    shutil.rmtree(destination.journal, ignore_errors=True)


def _whole(destination: Destination, missing: str) -> str:
    """Where a student is that is written, and what may become of what stands beside it."""
    return (
        f"the student is in {destination.output}; {missing}: go on with --resume, or delete "
        f"{destination.journal} to keep the student as it is"
    )


def _unfinished(journal: Path) -> str:
    """What an interrupted compression leaves behind, in words."""
    kept = _kept(journal)
    if not kept and several.is_first():
        shutil.rmtree(journal, ignore_errors=True)
    return kept or "nothing was written"


def _kept(journal: Path) -> str:
    kept = in_words(journal)
    verb = "is" if kept.startswith("1 ") and " and " not in kept else "are"
    return kept and f"{kept} {verb} in {journal}; go on with --resume"


def _then(inputs: Inputs, evaluated: bool) -> str:
    if not evaluated:
        return "nothing is evaluated"
    return f"then evaluating student and teacher on {inputs.test_name}"


def _intention(method: str, inputs: Inputs, goal: Goal, sample: FewShotSample, then: str) -> str:
    return (
        f"Compressing {inputs.model_title} by the method {method}, {goal.in_words}, from "
        f"{sample.num_images} training image{'' if sample.num_images == 1 else 's'} of "
        f"{inputs.data_title}; "
        f"{then}."
    )
