"""Folders of files that pass away with their process."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fsc.walking.passing_folder import PassingFolder

OTHER = """
import sys, tempfile
from fsc.walking.passing_folder import PassingFolder
tempfile.tempdir = sys.argv[1]
folder = PassingFolder()
(folder.path / "file").write_bytes(b"1")
print(folder.path, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def age(folder: Path) -> None:
    os.utime(folder, (0, 0))


def test_what_a_killed_process_left_is_removed_by_the_next(there: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    other = subprocess.Popen([sys.executable, "-c", OTHER, str(there)], **pipes)
    left = Path(other.stdout.readline().strip())
    age(left)
    alive = PassingFolder()
    assert (left / "file").exists()  # its process lives
    other.send_signal(signal.SIGKILL)
    other.wait()
    foreign = there / "another"
    foreign.mkdir()
    age(foreign)
    age(alive.path)
    last = PassingFolder()
    assert not left.exists() and alive.path.exists() and foreign.exists()
    for each in (alive, last):
        each.close()
    assert sorted(there.iterdir()) == [foreign]


def test_a_young_folder_may_be_about_to_be_locked(there: Path) -> None:
    young = Path(tempfile.mkdtemp(prefix="fsc-activations-"))
    PassingFolder().close()
    assert young.exists()
    age(young)
    PassingFolder().close()
    assert not young.exists()
