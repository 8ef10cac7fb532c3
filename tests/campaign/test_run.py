"""The frame of the campaign: what crashes, hangs or is cut short ends no campaign."""

import os
import time
from pathlib import Path

import pytest
import record
import run
from click.testing import CliRunner
from part import Fault, Part
from record import Finding


def behave(number: int, folder: Path) -> str:
    """Each number in its own way."""
    if number == 1:
        raise Fault("wrong")
    if number == 2:
        raise KeyError("what")
    if number == 3:
        os.abort()
    if number == 4:
        time.sleep(60)
    if number == 6:
        if os.fork():
            os.abort()
        time.sleep(60)  # what a case has started holds the worker's end of the pipe
    return "fine"


class Well:
    """A worker whose cases come out well."""

    def __init__(self, name: str) -> None:
        pass

    def __call__(self, number: int, limit: float) -> Finding:
        return Finding(number, "fine", "", 0.1)

    def stop(self, patience: float) -> None:
        pass


PART = Part(count=7, case=behave, limit=2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "part_of", lambda name: PART)
    return tmp_path


def test_every_case_is_recorded_whatever_it_does(folder: Path) -> None:
    worker = run.Worker("test_run")
    try:
        found = [worker(number, PART.limit) for number in range(PART.count)]
    finally:
        worker.stop()
    assert [each.outcome for each in found] == ["fine", "", "", "", "", "fine", ""]
    faults = [each.fault for each in found]
    assert faults[1] == "wrong" and "KeyError" in faults[2]
    assert "ended with -6" in faults[3] and "ended with -6" in faults[6] and "hung" in faults[4]


def test_a_worker_ends_with_all_that_it_has_started_and_leaves_nothing(folder: Path) -> None:
    worker = run.Worker("test_run")
    worker(6, PART.limit)
    worker(5, PART.limit)
    own, process = Path(worker._folder.name), worker._process
    assert own.is_dir()
    worker.stop(patience=5)
    assert process.exitcode == 0 and not own.exists()
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_a_campaign_goes_on_where_it_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    class Counted(Well):
        def __call__(self, number: int, limit: float) -> Finding:
            tried.append(number)
            return super().__call__(number, limit)

    monkeypatch.setattr(run, "Worker", Counted)
    record.append(folder / "any.jsonl", Finding(2, "", "wrong", 0.1))
    record.append(folder / "any.jsonl", Finding(1, "fine", "", 0.1))
    with (folder / "any.jsonl").open("a") as file:
        file.write('{"number": 2, "outc')  # killed while it wrote
    run.run("any", folder, None)
    assert tried == [0, 2, 3, 4, 5, 6]
    assert [each.fault for each in record.read(folder / "any.jsonl")] == [""] * PART.count
    run.run("any", folder, 99)
    assert len(tried) == 6


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("--count", "0"), "Invalid value for '--count': 0 is not in the range x>=1."),
        (("--count", "-3"), "Invalid value for '--count': -3 is not in the range x>=1."),
        (("--only", "-1"), "Invalid value for '--only': -1 is not in the range x>=0."),
        (("--only", "7"), "--only must be below the 7 cases of bits, got 7"),
        (("cuts", "--only", "1"), "--only must have one PART, got 2"),
        (("--only", "1", "--count", "2"), "--count must be left out with --only 1, got 2"),
        (
            ("--folder", os.devnull),
            "--folder must name a folder that can be written, got /dev/null",
        ),
        (
            ("--folder", "/proc/here"),
            "--folder must name a folder that can be written, got /proc/h",
        ),
    ],
)
def test_what_cannot_be_run_is_refused(
    folder: Path, given: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(run, "Worker", lambda name: pytest.fail("ran"))
    result = CliRunner().invoke(run.main, ["bits", *given])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"Error: {expected}")


@pytest.mark.parametrize(
    "line",
    [
        '{"number": 0}',
        "[1]",
        '{"number": -1, "outcome": "fine", "fault": "", "seconds": 1}',
        '{"number": "0", "outcome": "fine", "fault": "", "seconds": 1}',
        '{"number": 0, "outcome": "fine", "fault": null, "seconds": 1}',
    ],
)
def test_a_line_that_is_no_finding_is_told(
    folder: Path, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "Worker", lambda name: pytest.fail("ran"))
    path = folder / "bits.jsonl"
    record.append(path, Finding(1, "fine", "", 0.1))
    path.write_text(path.read_text() + line + "\n")
    result = CliRunner().invoke(run.main, ["bits", "--folder", str(folder)])
    assert (result.exit_code, result.stderr) == (
        1,
        f"Error: {path} must hold a finding a line, got {line} as 2\n",
    )


def test_what_has_come_out_is_summed_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "Worker", Well)
    path = folder / "bits.jsonl"
    record.append(path, Finding(5, "", "wrong", 0.1))
    result = CliRunner().invoke(run.main, ["bits", "--folder", str(folder), "--count", "3"])
    assert result.stdout == f"bits: 4 of 7 cases run, 1 with a fault, all in {path}\n"
