import errno
import fcntl
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from fsc import files


def test_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "report.json"
    files.write_json(path, {"runs": 1})

    def interrupted(temporary):
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_atomically(path, interrupted)
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"top1": float("nan")})
    assert path.read_text() == '{\n  "runs": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]


def test_written_file_keeps_its_name_and_has_ordinary_rights(tmp_path):
    path = tmp_path / "figure.png"
    names = []
    files.write_atomically(path, lambda temporary: (names.append(temporary), temporary.touch()))
    (tmp_path / "plain").touch()
    assert names[0].name == "figure.png" and names[0].parent.parent == tmp_path
    assert [each.name for each in tmp_path.iterdir() if each.is_dir()] == []
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_check_writable(tmp_path):
    files.check_writable(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="folder .*file cannot be written"):
        files.check_writable(tmp_path / "file")


@pytest.fixture
def full_disk():
    """Files end at 64 kB, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (65536, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def by_safetensors(path):
    save_file({"a": torch.zeros(100_000)}, path)


def by_torch(path):
    torch.save(torch.zeros(100_000), path)


def by_torch_into_a_file(path):
    with open(path, "wb") as file:
        torch.save(torch.zeros(100_000), file)


def by_bytes(path):
    path.write_bytes(bytes(100_000))


@pytest.mark.parametrize(
    ("writer", "reason"),
    [
        (by_safetensors, "Error while serializing: I/O error: File too large .os error 27."),
        (by_torch, ".*"),
        (by_torch_into_a_file, "File too large"),
        (by_bytes, "File too large"),
    ],
)
def test_a_full_disk_is_one_sentence_whoever_writes(tmp_path, full_disk, writer, reason):
    path = tmp_path / "student.file"
    path.write_text("earlier")
    expected = f"^file .*student.file cannot be written: {reason}$"
    with pytest.raises(OSError, match=expected) as error:
        files.write_atomically(path, writer)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["student.file"]
    assert path.read_text() == "earlier"


def test_reasons():
    assert files.reason(OSError(errno.ENOSPC, "No space left on device")) == (
        "No space left on device"
    )
    assert files.reason(SafetensorError("a\nb")) == "a b"
    assert files.reason(RuntimeError()) == "RuntimeError"


def test_room_on_the_disk(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=3_000_000))
    first, second = tmp_path / "a", tmp_path / "b" / "c"
    files.check_room({first: 2_000_000})
    files.check_room({first: 2_000_000, second: 1_000_000})
    with pytest.raises(OSError, match="a and .*c must have room for about 3.1 MB, got 3.0 MB free"):
        files.check_room({first: 2_000_000, second: 1_100_000})
    assert list(tmp_path.iterdir()) == []


_KILLED = """
import os, sys
from fsc import files

def write(path):
    path.write_text("half")
    os._exit(9)

def write_within(path):
    files.write_atomically(path, write)

files.write_atomically(sys.argv[1], {"one": write, "two": write_within}[sys.argv[2]])
"""


def kill_while_writing(path, levels):
    """The one thing that a process leaves beside a file when it is killed while writing it."""
    command = [sys.executable, "-c", _KILLED, str(path), levels]
    assert subprocess.run(command, check=False).returncode == 9
    (abandoned,) = path.parent.glob(".*")
    return abandoned


@pytest.mark.parametrize("levels", ["one", "two"])
def test_what_a_killed_process_was_writing_goes_with_the_next_writing(tmp_path, levels):
    path = tmp_path / "layer[1].0.json"
    path.write_text("old")
    abandoned = kill_while_writing(path, levels)
    assert path.read_text() == "old"
    host = abandoned.name.split("-")[0].rpartition(".")[2]
    others = {abandoned.name.replace(host, "00000000"), ".layer[1].0.note.json", ".lock"}
    for name in others:
        (tmp_path / name).mkdir()
    files.write_json(tmp_path / "other.json", {})
    assert abandoned.exists(), "it belongs to another file"
    files.write_json(path, {"runs": 2})
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "other.json", *others}


_SLOW = """
import sys
from fsc import files

def write(path):
    path.write_text("slow")
    print("writing", flush=True)
    sys.stdin.read()

files.write_atomically(sys.argv[1], write)
"""


def test_what_a_running_process_writes_stays_though_its_number_is_unknown(tmp_path, monkeypatch):
    def unknown(process, signal):
        raise ProcessLookupError

    path = tmp_path / "layer.json"
    command = [sys.executable, "-c", _SLOW, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as slow:
        assert slow.stdout.readline() == b"writing\n"
        with monkeypatch.context() as patch:
            # So it is in another container that shares the folder and the name of the host.
            patch.setattr(os, "kill", unknown)
            files.write_json(path, {"runs": 2})
        assert path.read_text() == '{\n  "runs": 2\n}\n'
        slow.stdin.close()
        assert slow.wait() == 0
    assert path.read_text() == "slow"
    assert [each.name for each in tmp_path.iterdir()] == ["layer.json"]


def test_a_file_system_without_locks_is_written_and_nothing_is_removed(tmp_path, monkeypatch):
    def no_locks(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    path = tmp_path / "layer.json"
    abandoned = kill_while_writing(path, "one")
    monkeypatch.setattr(fcntl, "flock", no_locks)
    files.write_json(path, {"runs": 2})
    assert {each.name for each in tmp_path.iterdir()} == {"layer.json", abandoned.name}


def test_a_folder_taken_for_abandoned_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    lock, taken = fcntl.flock, []

    def late(descriptor, operation):
        if not taken:
            (folder,) = tmp_path.iterdir()
            folder.rmdir()
            taken.append(folder)
        lock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    files.write_json(tmp_path / "layer.json", {"runs": 2})
    assert taken and [each.name for each in tmp_path.iterdir()] == ["layer.json"]
