"""The part `interruptions`: what is judged, and one whole job."""

import signal

import guarded
import interruptions
import jobs
import pytest
import run
from jobs import Ended
from part import Fault

from fsc.files import write_json


def test_a_killed_job_goes_on(tmp_path):
    worker = run.Worker("interruptions")  # a process with one thread, which can fork
    try:
        found = worker(0, interruptions.PART.limit)
    finally:
        worker.stop(patience=5)
    assert found.outcome == "cd-nc, killed: the same bits", found


def test_an_ending_is_a_sentence_or_a_kill():
    interruptions._check_ending(Ended(-signal.SIGKILL, "", 1), "killed")
    interruptions._check_ending(Ended(2, "error: file a cannot be written: full", 1), "full disk")
    for ended in (Ended(1, "Traceback", 1), Ended(2, "", 1), Ended(-signal.SIGSEGV, "", 1)):
        with pytest.raises(Fault, match="exit"):
            interruptions._check_ending(ended, "full disk")


def test_half_written_and_other_outputs_are_found(tmp_path):
    path = tmp_path / "out" / "runs.json"
    write_json(path, {"runs": [{"top1": 3, "seconds": 1.5}]})
    good = jobs.outputs(tmp_path)
    write_json(path, {"runs": [{"top1": 3, "seconds": 2.5}]})
    interruptions._check_same(jobs.outputs(tmp_path), good)
    write_json(path, {"runs": [{"top1": 4, "seconds": 1.5}]})
    with pytest.raises(Fault, match="other content of runs.json"):
        interruptions._check_same(jobs.outputs(tmp_path), good)
    path.write_text('{"runs": [')
    with pytest.raises(Fault, match="half-written: runs.json"):
        jobs.outputs(tmp_path)


def test_what_is_left_behind_is_found(tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()
    interruptions._check_clean(tmp_path)
    (tmp_path / "out" / ".lock").touch()
    with pytest.raises(Fault, match="left behind: .lock"):
        interruptions._check_clean(tmp_path)


def test_files_that_appear_and_memory_that_is_taken_are_found(tmp_path):
    with pytest.raises(Fault, match="touched escaped"), guarded.nothing_touched(tmp_path):
        (tmp_path / "escaped").touch()
    with pytest.raises(Fault, match="took"), guarded.memory_below(10_000_000):
        bytearray(b"x" * 40_000_000)
