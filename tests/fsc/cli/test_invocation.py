"""The command that sentences name is the one that works where it was started."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fsc.cli.invocation import typed


@pytest.fixture
def script(tmp_path, monkeypatch):
    """An executable `fsc` below the current folder, not on the path."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "my env" / "bin" / "fsc"
    path.parent.mkdir(parents=True)
    path.write_text('#!/bin/sh\necho "$@"\n')
    path.chmod(0o755)
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr(sys, "argv", [str(path), "demo"])
    return path


def test_off_the_path_it_is_named_from_here_and_works_in_a_shell(script, tmp_path):
    line = typed("evaluate", "a b.safetensors")
    assert line == "'my env/bin/fsc' evaluate 'a b.safetensors'"
    found = subprocess.run(line, shell=True, capture_output=True, text=True, check=True)
    assert found.stdout == "evaluate a b.safetensors\n"


def test_on_the_path_it_is_fsc(script, monkeypatch):
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.defpath}")
    assert typed("demo") == "fsc demo"


def test_another_fsc_on_the_path_is_not_meant(script, monkeypatch, tmp_path):
    other = tmp_path / "other" / "fsc"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    assert typed("demo") == "'my env/bin/fsc' demo"


def test_elsewhere_it_is_named_in_full(script, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert shlex.split(typed("demo"))[0] == str(script)


def test_in_the_same_folder_it_needs_a_slash(script, monkeypatch):
    monkeypatch.chdir(script.parent)
    assert typed("demo") == "./fsc demo"


def test_a_module_is_named_by_its_interpreter(script, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", [str(Path("python/fsc/__main__.py")), "demo"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert typed("demo") == ".venv/bin/python -m fsc demo"
