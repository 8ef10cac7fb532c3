"""`fsc compress` under torchrun: two processes, one student, one voice."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fsc.cli import several

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2",
            "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "fsc")  # fmt: skip


def by_two(*arguments):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([*TORCHRUN, *map(str, arguments)], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, env=environment)  # fmt: skip


def said(errors):
    """What fsc says of an error, without torchrun's own report."""
    return [line for line in errors.splitlines() if "error: " in line and "[default" not in line]


@pytest.fixture
def compress(on_digits, tmp_path):
    """The arguments of a compression into a folder."""
    return lambda folder, *more: ("compress", *on_digits, "--shots", 1, "--threads", 1,
                                  "--output", tmp_path / folder, *more)  # fmt: skip


def test_two_processes_write_the_student_of_one(fsc, compress, tmp_path):
    method = ("--method", "cd-nc", "--test-images", 9)
    assert fsc(*compress("one", *method)).exit_code == 0
    process = by_two(*compress("two", *method))
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert output.count("Written to") == 1 and errors.count("Compressing") == 1
    assert {path.name for path in (tmp_path / "two").iterdir()} == {
        "model.safetensors", "config.json", "README.md", "report.json", "samples.json"}  # fmt: skip
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    torch.testing.assert_close(two, one, rtol=1e-3, atol=1e-5)


def _process_of(rank: int, folder: Path) -> int | None:
    """The number of the process of a rank that writes to a folder, on Linux."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            is_ours = str(folder).encode() in (path / "cmdline").read_bytes()
            if is_ours and f"\0RANK={rank}\0".encode() in (path / "environ").read_bytes():
                return int(path.name)
        except OSError:
            continue
    return None


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs the /proc of Linux")
@pytest.mark.parametrize("rank", [0])
def test_a_killed_process_is_named_and_the_run_resumes(rank, fsc, compress, tmp_path):
    folder = tmp_path / "out"
    training = ("--method", "mir-before", "--mir-steps", 200, "--no-evaluate")
    process = by_two(*compress("out", *training))
    while process.poll() is None and not list((folder / "unfinished").glob("[!.]*.safetensors")):
        time.sleep(0.1)
    os.kill(_process_of(rank, folder), signal.SIGKILL)
    _, errors = process.communicate()
    assert process.returncode != 0
    (sentence,) = said(errors)
    assert sentence.startswith(
        f"error: all processes of the group must run to the end, rank {rank} no longer answers; "
    )
    assert sentence.endswith(f"steps of MiR are in {folder}/unfinished; go on with --resume")
    again = fsc(*compress("out", *training, "--resume"))
    assert again.exit_code == 0 and "Going on after" in again.stderr


def test_what_all_refuse_is_said_once(compress, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "report.json").write_text("{}")
    process = by_two(*compress("out", "--method", "l1"))
    _, errors = process.communicate()
    assert process.returncode != 0
    (sentence,) = said(errors)
    assert sentence.startswith("error: --output must name a folder without a student")


@pytest.fixture
def as_one_of_two(monkeypatch):
    def set_rank(rank):
        for name, value in (("RANK", rank), ("LOCAL_RANK", rank), ("WORLD_SIZE", 2)):
            monkeypatch.setenv(name, str(value))
        monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)

    before = signal.getsignal(signal.SIGTERM)
    yield set_rank
    signal.signal(signal.SIGTERM, before)


def test_other_verbs_take_one_process(fsc, as_one_of_two):
    as_one_of_two(0)
    result = fsc("schemes", "--model", "vgg16")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: fsc schemes must run in one process, got 2 of torchrun: only fsc compress takes "
        "several\n"
    )


def test_an_error_of_another_rank_alone_is_said_with_its_number(capsys, as_one_of_two):
    as_one_of_two(1)
    several.tell("error: the disk is full", OSError())
    assert capsys.readouterr().err == "rank 1: error: the disk is full\n"


def test_processes_of_one_machine_take_a_gpu_each(as_one_of_two):
    assert several.own_device("cuda") == "cuda"
    as_one_of_two(1)
    assert [several.own_device(name) for name in ("cuda", "cuda:0", "cpu")] == [
        "cuda:1", "cuda:0", "cpu"]  # fmt: skip
