"""Campaigns of faults: thousands of cases, of which none may crash, hang or be wrong in silence.

python tests/campaign/run.py [PART ...] [--folder campaign] [--only NUMBER] [--count N]

Every part runs in a process of its own, which is started anew behind a case that kills it or hangs.
What has come out stays in the folder, a file a part: started again, the campaign goes on where it
stopped, and tries again what was a fault. `--only` runs one case here and shows its traceback. The
page is made by `page.py`.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import click

from fsc.files import check_writable, reason

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "helpers")]

import record  # noqa: E402
from part import Fault, Part  # noqa: E402
from record import Finding  # noqa: E402

PARTS = ("operators", "files", "interruptions", "cuts", "bits", "growth")
_START, _END = 120, 5  # seconds in which a process has to be there, and to be gone
_BETWEEN = 0.5  # seconds between two looks at a process


def part_of(name: str) -> Part:
    """The part of a name."""
    return importlib.import_module(name).PART


def tried(part: Part, number: int) -> Finding:
    """What comes out of a case, here."""
    start = time.monotonic()
    outcome, fault = "", ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            outcome = part.case(number, Path(folder))
        except Fault as error:
            fault = str(error)
        except Exception as error:  # nothing that a case meets may end the campaign
            fault = f"{type(error).__name__}: {error}"
    return Finding(number, outcome, fault, round(time.monotonic() - start, 3))


def _work(name: str, channel: Connection, folder: str) -> None:
    """A process that tries the cases it is sent; what it starts can be ended with it."""
    os.setsid()
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    part = part_of(name)
    channel.send(None)
    while (number := channel.recv()) is not None:
        channel.send(tried(part, number))


class Worker:
    """A process for the cases of a part, started anew when it is gone."""

    def __init__(self, name: str) -> None:
        """Starts it with the first case."""
        self._name, self._process = name, None

    def __call__(self, number: int, limit: float) -> Finding:
        """What comes out of a case in at most so many seconds."""
        if self._process is None:
            self._start()
        start = time.monotonic()
        fault = f"hung: no answer in {limit:g} s"
        with suppress(EOFError, OSError):
            self._channel.send(number)
            # Asked now and then: what a case has started may hold the other end of the channel.
            while time.monotonic() < start + limit and self._process.is_alive():
                if self._channel.poll(_BETWEEN):
                    return self._channel.recv()
        self._process.join(_BETWEEN)
        if not self._process.is_alive():
            fault = f"crashed: the process ended with {self._process.exitcode}"
        self.stop()
        return Finding(number, "", fault, round(time.monotonic() - start, 3))

    def _start(self) -> None:
        # A fresh interpreter: threads of OpenMP do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._channel, far = context.Pipe()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        given = (self._name, far, self._folder.name)
        self._process = context.Process(target=_work, args=given, daemon=False)
        self._process.start()
        far.close()
        if not self._channel.poll(_START):
            raise click.ClickException(f"the part {self._name} does not start")
        self._channel.recv()

    def stop(self, patience: float = 0) -> None:
        """Ends it, whatever it does, with all that it has started, in some seconds or at once."""
        if self._process is None:
            return
        with suppress(OSError):
            if patience:
                self._channel.send(None)
                self._process.join(patience)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._process = None
        self._channel.close()
        self._folder.cleanup()


def run(name: str, folder: Path, count: int | None) -> None:
    """Tries all cases of a part that have not come out well yet, and sums up what has come out."""
    part, path = part_of(name), folder / f"{name}.jsonl"
    earlier, worker = record.read(path), Worker(name)
    done = {finding.number for finding in earlier if not finding.fault}
    spent = sum(finding.seconds for finding in earlier)
    try:
        for number in range(part.count if count is None else min(count, part.count)):
            if number in done:
                continue
            if spent > 3600 * part.hours:
                click.echo(f"{name}: {part.hours:g} hours are over at case {number}")
                break
            finding = worker(number, part.limit)
            record.append(path, finding)
            spent += finding.seconds
            if finding.fault:
                click.echo(f"{name} {number}: {finding.fault}")
    finally:
        worker.stop(patience=_END)
    found = record.read(path)
    faults = sum(bool(finding.fault) for finding in found)
    run_of = f"{len(found):,} of {part.count:,} cases run"
    click.echo(f"{name}: {run_of}, {faults:,} with a fault, all in {path}")


def _check_only(only: int, count: int | None, parts: tuple[str, ...]) -> None:
    """Refuses a case that no part, or none of this part, has."""
    if count is not None:
        raise click.UsageError(f"--count must be left out with --only {only}, got {count}")
    if len(parts) != 1:
        raise click.UsageError(f"--only must have one PART, got {len(parts)}")
    cases = part_of(parts[0]).count
    if only >= cases:
        raise click.UsageError(
            f"--only must be below the {cases:,} cases of {parts[0]}, got {only}"
        )


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS))
@click.option("--folder", type=click.Path(path_type=Path), default=Path("campaign"))
@click.option("--only", type=click.IntRange(min=0), help="The one case to be tried, here.")
@click.option(
    "--count", type=click.IntRange(min=1), help="Cases of each part, instead of its own number."
)
def main(parts: tuple[str, ...], folder: Path, only: int | None, count: int | None) -> None:
    """Run them."""
    if only is not None:
        _check_only(only, count, parts)
        with tempfile.TemporaryDirectory() as own:
            click.echo(part_of(parts[0]).case(only, Path(own)))
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder)
    except OSError as error:
        raise click.UsageError(
            f"--folder must name a folder that can be written, got {folder}: {reason(error)}"
        ) from error
    for name in parts or PARTS:
        run(name, folder, count)


if __name__ == "__main__":
    main()
