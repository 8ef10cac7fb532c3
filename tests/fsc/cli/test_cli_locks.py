"""Two runs never write into one folder or one file."""

import errno
import os
import shutil
import socket
import subprocess
import sys

import pytest

from fsc.cli import commands, locks, outputs, paths
from fsc.cli.locks import locked_file, locked_folder

HOLD = """
import sys, time
from pathlib import Path
from fsc.cli.locks import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout.readline() == b"held\n"
    yield process
    process.kill()
    process.wait()


def test_two_runs_never_share_a_folder(fsc, on_digits, tmp_path, holder):
    output = ("--output", tmp_path / "out")
    compress = ("compress", *on_digits, "--method", "l1", "--shots", 1, *output)
    for arguments in (compress, ("demo", *output)):
        result = fsc(*arguments)
        assert result.exit_code == 2
        assert result.stderr == (
            f"error: folder {tmp_path / 'out'} is being written by process {holder.pid} on "
            f"{socket.gethostname()}: wait for it, or name another\n"
        )
    holder.kill()
    holder.wait()
    assert names(tmp_path / "out") == [".lock"]
    assert fsc(*compress).exit_code == 0
    assert names(tmp_path / "out") == sorted(outputs.STUDENT)


def test_a_lock_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "new" / "out"
    with locked_folder(folder):
        assert names(folder) == [".lock"]
    assert names(tmp_path) == []
    with locked_folder(folder):
        (folder / "result").touch()
    assert names(folder) == ["result"]


def test_a_lock_file_that_was_removed_meanwhile_is_made_anew(tmp_path, monkeypatch):
    """Whoever held it removed it between opening and locking here."""
    flock, calls = locks.fcntl.flock, []

    def removing(descriptor, operation):
        calls.append(operation)
        if len(calls) == 1:
            (tmp_path / ".lock").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", removing)
    with locked_folder(tmp_path), pytest.raises(OSError, match="being written by process"):
        with locked_folder(tmp_path):
            pass
    assert len(calls) == 3


@pytest.mark.parametrize("kind", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_file_systems_without_locks_are_told(tmp_path, monkeypatch, kind):
    def unable(descriptor, operation):
        raise OSError(kind, os.strerror(kind))

    monkeypatch.setattr("fcntl.flock", unable)
    with pytest.warns(UserWarning, match="cannot be locked .*no other run may write to it"):
        with locked_folder(tmp_path / "out"):
            pass
    assert names(tmp_path) == []


def test_two_runs_never_write_one_file(fsc, on_digits, tmp_path):
    path = tmp_path / "runs.json"
    with locked_file(path):
        result = fsc("compare", *on_digits, "--shots", 1, "--json", path)
        assert result.exit_code == 2
        assert f"error: file {path} is being written by process {os.getpid()} on" in result.stderr
    assert names(tmp_path) == []


def test_a_full_disk_does_not_cost_the_lock(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with locked_folder(tmp_path), pytest.raises(OSError, match="written by another process: wait"):
        with locked_folder(tmp_path):
            pass


@pytest.mark.parametrize(
    ("verb", "flags", "expected"),
    [
        ("compare", ("--json", "a.png", "--output", "a.png"), "--json and --output must name paths "
         "of their own, got a.png and a.png"),
        ("grid", ("--objective", "soft", "--json", "a.png", "--output", "b/../a.png"), "--json "
         "and --output must name paths of their own, got a.png and b/../a.png"),
        ("compare", ("--json", "a", "--output", "a/b.png"), "--json and --output must name paths "
         "of their own, got a and a/b.png"),
        ("compress", ("--output", "new", "--json", "new"), "--output and --json must name paths of "
         "their own, got new and new"),
        ("compress", ("--output", "out", "--json", "a.html", "--report", "a.html"), "--json and "
         "--report must name paths of their own, got a.html and a.html"),
        ("demo", ("--output", "new", "--json", "new"), "--output and --json must name paths of "
         "their own, got new and new"),
        ("compare", ("--checkpoint", "teacher", "--json", "teacher"), "--json and "
         "--checkpoint must name paths of their own, got teacher and teacher"),
        ("compare", ("--scheme", "teacher", "--json", "teacher"), "--scheme and --json must name "
         "paths of their own, got teacher and teacher"),
        ("compare", ("--model", "teacher.py:build", "--json", "teacher.py"), "--model and --json "
         "must name paths of their own, got teacher.py:build and teacher.py"),
        ("evaluate", ("teacher", "--json", "./teacher"), "PATH and --json must name paths of their "
         "own, got teacher and teacher"),
        ("compare", ("--json", os.devnull), f"--json must name an ordinary file, got {os.devnull}, "
         "which is none"),
        ("compress", ("--output", "out", "--checkpoint", "out/model.safetensors"), "--output and "
         "--checkpoint must name paths of their own, got out and out/model.safetensors: "
         "out/model.safetensors would be written"),
        ("compress", ("--output", "out", "--scheme", "out/report.json", "--resume"), "--scheme and "
         "--output must name paths of their own, got out/report.json and out: out/report.json "
         "would be written"),
        ("compress", ("--output", "out", "--checkpoint", "out/unfinished/t.pt"), "--output and "
         "--checkpoint must name paths of their own, got out and out/unfinished/t.pt: "
         "out/unfinished would be written"),
        ("compress", ("--output", "imgs/out", "--data", "folder:imgs"), "--data and --output must "
         "name paths of their own, got folder:imgs and imgs/out: imgs/out/model.safetensors would "
         "be written"),
        ("evaluate", ("out", "--json", "out/model.safetensors"), "PATH and --json must name paths "
         "of their own, got out and out/model.safetensors"),
        ("export", ("out", "--torch-export", "x.pt2", "--json", "out/model.safetensors"), "PATH "
         "and --json must name paths of their own, got out and out/model.safetensors"),
        ("compare", ("--data", "folder:imgs", "--output", "imgs/a/0.png"), "--data and --output "
         "must name paths of their own, got folder:imgs and imgs/a/0.png"),
        ("compare", ("--data", "folder:imgs", "--output", "linked/a/0.png"), "--data and --output "
         "must name paths of their own, got folder:imgs and linked/a/0.png"),
        ("compare", ("--data", "folder:linked", "--json", "imgs/new.json"), "--data and --json "
         "must name paths of their own, got folder:linked and imgs/new.json"),
        ("compare", ("--data-root", ".", "--json", "checkpoints/cifar10_vgg16.pt"), "--json and "
         "--data-root must name paths of their own, got checkpoints/cifar10_vgg16.pt and ."),
    ],
)  # fmt: skip
def test_nothing_is_written_where_something_else_is_read_or_written(
    fsc, on_digits, teacher_file, tmp_path, monkeypatch, verb, flags, expected
):
    monkeypatch.chdir(tmp_path)
    for folder in ("imgs/a", "out", "checkpoints"):
        (tmp_path / folder).mkdir(parents=True)
    for path in ("teacher", "out/model.safetensors", "checkpoints/cifar10_vgg16.pt"):
        shutil.copy(teacher_file, path)
    for path in ("teacher.py", "imgs/a/0.png", "out/report.json"):
        (tmp_path / path).touch()
    (tmp_path / "linked").symlink_to("imgs")
    before = contents(tmp_path)
    given = {
        "demo": (),
        "evaluate": ("--data", "digits"),
        "export": (),
        "compress": (*on_digits, "--method", "l1", "--shots", 1),
    }.get(verb, (*on_digits, "--shots", 1))
    result = fsc(verb, *given, *flags, "--overwrite")
    assert (result.exit_code, result.stderr) == (2, f"error: {expected}\n")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("again", ["--overwrite", "--resume"])
def test_results_lie_beside_what_is_read(
    fsc, on_digits, teacher_file, tmp_path, monkeypatch, again
):
    """Only what is read is protected, and a run may replace its own results."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FSC_DATA", ".")
    shutil.copy(teacher_file, "teacher.safetensors")
    given = ("--checkpoint", "teacher.safetensors", "--shots", 1, "--json", "a.json")
    student = ("compress", *on_digits, *given, "--method", "l1", "--no-evaluate", "--output", ".")
    runs = ("compare", *on_digits, *given, "--method", "l1", "--seeds", 1, "--test-images", 9)
    for number, arguments in enumerate((student, runs)):
        first = fsc(*arguments, *(("--overwrite",) if number else ()))
        assert first.exit_code == 0, first.output
        # What is finished is not gone on with.
        resumed = again if number else "--overwrite"
        second = fsc(*arguments, resumed)
        assert second.exit_code == 0, second.output
    beside = fsc("export", ".", "--torch-export", "student.pt2", "--overwrite")
    assert beside.exit_code == 0, beside.output


def test_every_kind_of_parameter_says_what_it_reads():
    """One that does not would be written to; free text may be a path."""
    for command in commands.ALL:
        for parameter in command.params:
            kind = type(parameter.type)
            assert paths.read_by.dispatch(kind) is not paths.read_by.dispatch(object), (
                f"{command.name} {parameter.opts[0]}: {kind.__name__}"
            )
