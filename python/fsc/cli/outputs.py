"""What a command finds where it is to write, whether there is room, and what to do if not."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from fsc import method_names
from fsc.cli import options
from fsc.cli.given import Inputs
from fsc.cli.locks import OTHERWISE, hold_files, hold_folder
from fsc.cli.paths import REPORTS
from fsc.cli.settings import Settings
from fsc.files import check_room, read_json
from fsc.methods import FSKD, CrossDistillation, SolveThenTrain
from fsc.methods.training_state import in_words
from fsc.model_folder import FILES, MODEL_FILE
from fsc.networks import checkpoint
from fsc.walking.frontier import AT_WORK
from fsc.walking.spill import bytes_of_walk

STUDENT = (*FILES, *REPORTS)
_JOURNAL = "unfinished"
DEMO = (
    *("report.json", "samples.json", "figure.png", "teacher.safetensors"),
    *(f"{name}.safetensors" for name in method_names.NAMES),
)
# Ten networks of at most a megabyte, and a figure.
_DEMO_BYTES = 15_000_000
# The student, and a journal that may hold every weight with its momentum.
_NUM_COPIES = 3


@dataclass(frozen=True)
class Results:
    """The files that a command is to write, as they are typed.

    Attributes:
        json_path: what --json names.
        figure_path: what --output names.
        overwrite: whether files that are there already may be replaced.
    """

    json_path: Path | None
    figure_path: Path | None
    overwrite: bool

    def hold(self) -> None:
        """Lock them until the command ends; raises what `options.check_outputs` does."""
        options.check_outputs(self.json_path, self.figure_path, replacing=self.overwrite)


@dataclass(frozen=True)
class Destination:
    """The folder that a student is to go to, and what may become of what it holds.

    Attributes:
        output: the folder.
        resume: whether to go on with what is unfinished there.
        overwrite: whether what is there may be replaced.
        page_path: what --report names: a file that may lie elsewhere; None: no page is written.
        json_path: what --json names.
    """

    output: Path
    resume: bool
    overwrite: bool
    page_path: Path | None
    json_path: Path | None

    @property
    def journal(self) -> Path:
        """The folder in it with what is unfinished."""
        return self.output / _JOURNAL

    def hold(self) -> None:
        """Lock it, once no student, no page and no solved layers of another run get lost.

        Raises:
            OSError: something would get lost, or the folder cannot be written.
            ValueError: the page's name says that it is something else, or a file is to go where
                another goes, where what is unfinished is or where something is read.
        """
        if self.page_path is not None and self.page_path.suffix.lower() != ".html":
            raise ValueError(f"--report must name a file in .html, got {self.page_path}")
        hold_folder("--output", self.output, (*STUDENT, _JOURNAL))
        replacing = self.overwrite or (self.resume and self.journal.is_dir())
        self._hold_files(replacing=replacing)
        unfinished, finished = in_words(self.journal), _found(self.output, STUDENT)
        if replacing:
            return
        if unfinished:
            raise FileExistsError(
                f"--output must name a folder without an unfinished compression, got "
                f"{self.output} with {unfinished} in {self.journal}: go on with --resume, "
                f"{OTHERWISE}"
            )
        if finished:
            nothing = "nothing of it is unfinished, " if self.resume else ""
            if self.journal.is_dir():
                nothing = "what is measured of it may be missing: go on with --resume, "
            raise FileExistsError(
                f"--output must name a folder without a student, got {self.output} with "
                f"{', '.join(finished)}: {nothing}{OTHERWISE}"
            )

    def _hold_files(self, *, replacing: bool) -> None:
        """Lock what goes elsewhere, once the journal and the student's files have their places."""
        journal = self.journal
        if journal.exists() and not journal.is_dir():
            raise FileExistsError(
                f"--output must name a folder where {journal.name} is no file, got {self.output}: "
                "remove that or name another"
            )
        given = {"--report": self.page_path, "--json": self.json_path}
        for flag, path in given.items():
            # It is removed at the end, with all that is in it.
            if path is not None and journal.resolve() in path.resolve().parents:
                raise ValueError(f"{flag} must name a file outside of {journal}, got {path}")
        hold_beside(given, self.output, STUDENT, replacing=replacing)


def hold_beside(
    given: Mapping[str, Path | None], folder: Path, names: Sequence[str], *, replacing: bool
) -> None:
    """Lock files that go beside those of a folder, once all of these have their places.

    Args:
        given: flag -> the file that it names, if any.
        folder: that --output names.
        names: of its files.
        replacing: whether files that are there already may be replaced.

    Raises:
        OSError: a file cannot be written, or something is there already.
        ValueError: one is, or lies in, what goes to the folder.
    """
    for name in names:
        if (folder / name).is_dir():
            raise FileExistsError(
                f"--output must name a folder where {name} is no folder, got {folder}: remove that "
                "or name another"
            )
    places = {(folder / name).resolve() for name in names}
    for flag, path in given.items():
        if path is not None and places & {path.resolve(), *path.resolve().parents}:
            raise ValueError(
                f"{flag} must name another file than those that go to {folder}, got {path}"
            )
    hold_files(given, replacing=replacing)


def check_demo(output: Path, *, overwrite: bool) -> None:
    """Make sure that a demonstration replaces nothing but an earlier one, and has room.

    Raises:
        OSError: the folder holds files of the same names that are none of a demonstration, or
            there is too little room.
    """
    found = _found(output, DEMO)
    if found and not overwrite and not _is_demo(output):
        raise FileExistsError(
            f"--output must name a folder without results, got {output} with "
            f"{', '.join(found)}, which are none of a demonstration: {OTHERWISE}"
        )
    check_room({output: _DEMO_BYTES})


def check_space(
    inputs: Inputs,
    num_images: int,
    settings: Settings,
    output: Path | None,
    methods: Sequence[str],
) -> None:
    """Make sure that the disk has room for a student and whatever is written on the way.

    Args:
        inputs: the teacher.
        num_images: images of the sample.
        settings: resources, and whether images are added to the sample.
        output: the folder of the student and its journal; None: neither is written.
        methods: that take the sample, by name.

    Raises:
        OSError: there is too little room.
    """
    needed = (
        {} if output is None else {output: _still_missing(inputs.teacher, output, settings.journal)}
    )
    if settings.memory_budget is not None:
        copies = 0 if settings.augment is None else settings.augment.copies
        given = (1 + copies) * num_images
        values = inputs.example.numel()
        walked = max(_walked(settings.method(name, inputs), given, values) for name in methods)
        one = bytes_of_walk(inputs.teacher, inputs.example)
        at_work = AT_WORK * min(settings.batch_size, walked) * one.largest
        held = max(0, settings.memory_budget - at_work)
        folder = Path(tempfile.gettempdir())
        needed[folder] = needed.get(folder, 0) + max(0, 2 * walked * one.held - held)
    check_room(needed)


def _walked(method: object, given: int, values: int) -> int:
    """How many images a method walks over, where so many of so many values are given."""
    solve = method.solve if isinstance(method, SolveThenTrain) else method
    if isinstance(solve, CrossDistillation | FSKD):
        return solve.walks_on(given, values)
    return given


def rescue(write: Callable[[Path], None]) -> str:
    """Write into a new temporary folder what could not be written where it belongs.

    Args:
        write: writes the student into a folder.

    Returns:
        Where the student is now, in words.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix="fsc-student-"))
    except OSError:
        return "the student could not be kept in a temporary folder either"
    try:
        write(folder)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        return f"the student could not be kept in {folder.parent} either"
    return f"the student is kept in {folder}"


def _found(folder: Path, names: tuple[str, ...]) -> list[str]:
    return [name for name in dict.fromkeys(names) if (folder / name).exists()]


def _is_demo(folder: Path) -> bool:
    """Whether a demonstration wrote the folder; one that was interrupted left no report."""
    try:
        if (folder / "report.json").exists():
            report = read_json(folder / "report.json", "report")
            return isinstance(report, dict) and {"teacher", "runs"} <= report.keys()
        return "top1" in checkpoint.read_metadata(folder / "teacher.safetensors")
    except (OSError, ValueError):
        return False


def _still_missing(teacher: nn.Module, output: Path, journal: Path | None) -> int:
    """Bytes to come, without those that an interrupted run has written already."""
    size = sum(value.nbytes for value in teacher.state_dict().values())
    paths = [output / MODEL_FILE, *(journal.iterdir() if journal and journal.is_dir() else ())]
    there = sum(path.stat().st_size for path in paths if path.is_file())
    return max(size, _NUM_COPIES * size - there)
