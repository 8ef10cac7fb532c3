"""How the command `fsc` is typed where it runs, for sentences that say what to try next."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

import click

from fsc.cli import several

# Where a context keeps the arguments of the command line.
TYPED = "fsc.cli.typed"


def typed(*arguments: object) -> str:
    """Return a command line of `fsc` that works as it stands in the shell that called this one.

    Example:
        >>> typed("evaluate", "my model.safetensors").split(maxsplit=1)[1].endswith(
        ...     "evaluate 'my model.safetensors'"
        ... )
        True
    """
    return " ".join([_program(), *(shlex.quote(str(argument)) for argument in arguments)])


def repeated() -> str:
    """The command line that runs, for people who read of it elsewhere: `fsc` is on their path.

    It starts anew, and replaces nothing that somebody has unless that is typed behind it.
    """
    again = ("--resume", "--overwrite")
    arguments = [each for each in click.get_current_context().meta[TYPED] if each not in again]
    processes = os.environ.get("LOCAL_WORLD_SIZE", several.processes())
    shared = several.processes() > 1
    program = f"torchrun --nproc-per-node {processes} -m fsc" if shared else "fsc"
    given = os.environ.get("FSC_DATA")
    named = any(each.split("=")[0] == "--data-root" for each in arguments)
    folder = f"FSC_DATA={shlex.quote(given)} " if given and not named else ""
    return folder + " ".join([program, *map(shlex.quote, arguments)])


def _program() -> str:
    started = Path(sys.argv[0])
    if started.name in ("fsc", "fsc.exe") and started.is_file():
        found = shutil.which("fsc")
        same = found is not None and os.path.samefile(found, started)
        return "fsc" if same else shlex.quote(_nearby(started))
    # Started as `python -m fsc`, or from a program that only the interpreter is known of.
    return f"{shlex.quote(_nearby(Path(sys.executable)))} -m fsc"


def _nearby(path: Path) -> str:
    """The path from the current folder where it lies below it; links are not followed."""
    absolute = Path(os.path.abspath(path))
    if not absolute.is_relative_to(Path.cwd()):
        return str(absolute)
    relative = absolute.relative_to(Path.cwd())
    # Without a slash the shell would look for it on the path.
    return str(relative) if len(relative.parts) > 1 else f"./{relative}"
