import errno
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


def test_written_file_keeps_its_suffix_and_has_ordinary_rights(tmp_path):
    path = tmp_path / "figure.png"
    names = []
    files.write_atomically(path, lambda temporary: (names.append(temporary), temporary.touch()))
    (tmp_path / "plain").touch()
    assert names[0].suffix == ".png" and names[0].parent == tmp_path
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
from pathlib import Path
from fsc import files
files.write_atomically(sys.argv[1], lambda path: (path.write_text("half"), os._exit(9)))
"""


def test_what_a_killed_process_was_writing_goes_with_the_next_writing(tmp_path):
    path = tmp_path / "layer[1].0.json"
    path.write_text("old")
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path)], check=False)
    (abandoned,) = tmp_path.glob(".*")
    assert killed.returncode == 9 and path.read_text() == "old"
    alive = abandoned.name.replace(f"-{_process(abandoned)}-", f"-{os.getppid()}-")
    host = abandoned.name.split("-")[0].rpartition(".")[2]
    others = {alive, abandoned.name.replace(host, "00000000"), ".layer[1].0.note.json", ".lock"}
    for name in others:
        (tmp_path / name).touch()
    files.write_json(tmp_path / "other.json", {})
    assert abandoned.exists(), "it belongs to another file"
    files.write_json(path, {"runs": 2})
    assert {each.name for each in tmp_path.iterdir()} == {path.name, "other.json", *others}


def _process(temporary):
    return int(temporary.name.split("-")[1])
