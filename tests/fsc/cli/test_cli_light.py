"""What help and names must not import, and that nothing is missing for it."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import click
import pytest

import fsc
import fsc.schemes
from fsc.cli import commands

HEAVY = ("torch", "numpy", "matplotlib", "sklearn", "rich", "fsc_ext", "PIL", "timm")


def loaded_after(code: str, tmp_path: Path) -> set[str]:
    """Which heavy modules a fresh interpreter has loaded after some code."""
    code += f"\nimport json, sys\nprint(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    # As here, wherever the package lies; elsewhere, so that no folder shadows it.
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], *([c.name, "--help"] for c in commands.ALL)], ids=str
)
def test_help_and_version_import_nothing_heavy(arguments, tmp_path):
    code = f"""
from fsc.cli import main
try:
    main({arguments}, prog_name="fsc")
except SystemExit as end:
    assert not end.code, end.code
"""
    assert loaded_after(code, tmp_path) == set()


def test_help_lists_verbs_with_whole_sentences():
    from click.testing import CliRunner

    from fsc.cli import main

    shown = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    assert "..." not in shown.partition("Commands:")[2]
    assert max(map(len, shown.splitlines())) <= 80
    told = " ".join(shown.split())
    for verb in commands.ALL:
        first = " ".join((verb.help or "").partition("\n\n")[0].split())
        assert f"{verb.name} {first}" in told


@pytest.mark.parametrize("verb", [command.name for command in commands.ALL])
def test_help_fits_a_window_and_breaks_no_name(verb):
    from click.testing import CliRunner

    from fsc.cli import main

    lines = CliRunner().invoke(main, [verb, "--help"], terminal_width=80).output.splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.endswith("-")]
    assert not [line for line in lines if "\u2011" in line]


@pytest.mark.parametrize("verb", commands.ALL, ids=lambda verb: verb.name)
def test_help_has_every_option_once_under_one_subject(verb):
    from click.testing import CliRunner

    from fsc.cli import help_pages, main

    lines = CliRunner().invoke(main, [verb.name, "--help"], terminal_width=80).output.splitlines()
    begun = [line.strip().partition(" ")[0].rstrip(",") for line in lines if line[:3] == "  -"]
    options = [each for each in verb.params if isinstance(each, click.Option)]
    assert sorted(begun) == sorted(["-h", *(each.opts[0] for each in options)])
    subjects = [line[:-1] for line in lines if line[:1].isalpha() and line.endswith(":")]
    is_short = len(options) + 1 < help_pages.SHORT  # --help is one too
    assert subjects == (
        ["Options"] if is_short else [s for s in help_pages.SUBJECTS if s in subjects]
    )
    named = [name for names in help_pages.SUBJECTS.values() for name in names]
    assert len(named) == len(set(named))


def test_help_of_a_long_verb_lists_what_has_no_subject_too():
    from click.testing import CliRunner

    from fsc.cli import help_pages

    names = [f"--new-{number}" for number in range(help_pages.SHORT)]
    hidden = click.Option(["--model"], hidden=True)
    verb = help_pages.Verb("new", params=[hidden, *(click.Option([name]) for name in names)])
    shown = CliRunner().invoke(verb, ["--help"]).output
    assert all(f"  {name} TEXT" in shown for name in names) and "--model" not in shown
    assert "\nOther options:\n" in shown and "Network and images" not in shown


def test_help_lists_every_name(tmp_path):
    from click.testing import CliRunner

    from fsc import method_names, models, schemes
    from fsc.cli import main
    from fsc.images.names import AUGMENTATIONS, DATA_SETS

    shown = CliRunner().invoke(main, ["compress", "--help"], terminal_width=300).output
    for name in (*models.names(), *schemes.names(), *method_names.NAMES, *AUGMENTATIONS):
        assert name in shown
    assert f"[{'|'.join(DATA_SETS)}|folder:PATH]" in shown


def test_the_package_and_compress_import_what_they_use_only(tmp_path):
    assert loaded_after("import fsc", tmp_path) == set()
    after = loaded_after("import fsc; fsc.compress; fsc.schemes.named; fsc.models.build", tmp_path)
    assert "torch" in after
    assert not after & {"matplotlib", "sklearn", "rich"}


def test_a_wrong_option_is_refused_without_torch(tmp_path):
    code = """
from fsc.cli import main
try:
    main(["compress", "--model", "resnet57"], prog_name="fsc")
except SystemExit as end:
    assert end.code == 2
"""
    assert loaded_after(code, tmp_path) == set()


def test_rooms_are_there_after_import_fsc_alone(tmp_path):
    code = "\n".join(
        [
            "import fsc",
            "assert fsc.schemes.named('res-50', 'resnet20').kept",
            "assert fsc.models.names() and fsc.images.sampling.sample_per_class",
            "assert fsc.report.analysis.layer_errors and fsc.walk is fsc.walking.walk.walk",
            "assert callable(fsc.compress) and fsc.compression.compress is fsc.compress",
        ]
    )
    assert "torch" in loaded_after(code, tmp_path)  # and so the code ran to its end


def test_every_public_name_is_there_and_listed():
    assert set(fsc.__all__) <= set(dir(fsc))
    assert {"schemes", "models", "cli", "compression"} <= set(dir(fsc))
    for name in fsc.__all__:
        value = getattr(fsc, name)
        assert isinstance(value, str) if name == "__version__" else value.__name__ == name
        assert name in vars(fsc), "what was found once is kept"
    namespace: dict[str, object] = {}
    exec("from fsc import *", namespace)
    assert set(fsc.__all__) <= set(namespace)


def test_what_is_not_there_is_said_as_python_says_it():
    with pytest.raises(AttributeError, match="module 'fsc' has no attribute 'compres'"):
        fsc.compres  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'compres' from 'fsc'"):
        exec("from fsc import compres")
    assert not hasattr(fsc, "__wrapped__")


def test_type_checkers_see_what_is_there_at_run_time():
    tree = ast.parse(Path(fsc.__file__).read_text(encoding="utf-8"))
    (branch,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        alias.asname or alias.name: node.module
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert set(fsc.__all__) <= set(seen)
    for name, module in seen.items():
        home = sys.modules[getattr(fsc, name).__name__ if module == "fsc" else str(module)]
        assert getattr(fsc, name) is (home if module == "fsc" else getattr(home, name))


def what_is_taken(work: Callable[..., None]) -> Iterator[str]:
    """The parameters of a verb's work, fields in the place of an object that options make."""
    for name, kind in get_type_hints(work).items():
        if name != "return":
            yield from (f.name for f in fields(kind)) if is_dataclass(kind) else [name]


@pytest.mark.parametrize("command", commands.ALL, ids=lambda c: c.name)
def test_options_are_what_the_work_takes(command: click.Command):
    from importlib import import_module

    given = [p.name for p in command.params if p.expose_value]
    taken = what_is_taken(import_module(f"fsc.cli.{command.name}").command)
    assert sorted(given) == sorted(taken)


def ended_after(code, tmp_path):
    """A fresh interpreter that has run some code."""
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": paths},
    )


@pytest.mark.parametrize("start", ["runpy.run_module('fsc', run_name='__main__')", "run()"])
def test_an_interruption_while_the_command_is_imported(start, tmp_path):
    code = f"""
import runpy, sys
from fsc.__main__ import run

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "fsc.cli":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
del sys.modules["fsc.__main__"]
{start}
"""
    ended = ended_after(code, tmp_path)
    assert ended.returncode == 130, ended
    assert ended.stderr == "interrupted: nothing was written\n"


@pytest.mark.parametrize("given", ["--version", "nothing"])
def test_an_interruption_when_all_is_done_changes_nothing(given, tmp_path):
    code = f"""
import atexit, os, signal, sys
from fsc.__main__ import run

atexit.register(os.kill, os.getpid(), signal.SIGINT)
sys.argv[1:] = [{given!r}]
run()
"""
    ended = ended_after(code, tmp_path)
    assert ended.returncode == (0 if given == "--version" else 2), ended
    assert "KeyboardInterrupt" not in ended.stderr


def test_what_stops_a_job_ends_it_as_ctrl_c_does(small_on_digits, tmp_path):
    given = ["compress", *map(str, small_on_digits), "--method", "l1", "--shots", "1"]
    given += ["--output", "out"]
    code = f"""
import os, signal, sys, time
import fsc.cli.compress as work

def stopped(*given):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)

work.make_student = stopped
sys.argv[1:] = {given!r}
from fsc.__main__ import run
run()
"""
    ended = ended_after(code, tmp_path)
    assert ended.returncode == 130, ended
    assert ended.stderr.splitlines()[-1] == "interrupted: nothing was written"
    assert list(tmp_path.iterdir()) == []
