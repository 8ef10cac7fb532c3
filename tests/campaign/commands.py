"""Files that commands read: networks to evaluate, comparisons to go on with, what is cached."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import json_damage
import tensor_damage
import torch
from click.testing import CliRunner
from readers import Kind, once

from fsc import models
from fsc.cli import main
from fsc.networks import checkpoint

_TEST = ("--test-images", 9)
_ERRORS = (1, 2)


class Refused(ValueError):
    """A command said no."""


def fsc(*arguments: object) -> str:
    """What a command prints; refused as a user sees it, or what it let through is raised."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    if result.exit_code == 0:
        return result.stdout
    lines = result.stderr.splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    if result.exit_code not in _ERRORS or len(errors) != 1 or lines[-1] != errors[0]:
        raise RuntimeError(f"exit {result.exit_code} with {result.stderr[-300:]!r}")
    raise Refused(errors[0])


def _write_teacher(folder: Path) -> None:
    torch.manual_seed(0)
    teacher = models.build("resnet14", in_channels=1).eval()
    checkpoint.save(teacher, folder / "teacher.safetensors", name="resnet14")


def _on_digits(folder: Path) -> tuple[object, ...]:
    given = ("--model", "resnet14", "--data", "digits", "--checkpoint")
    return (*given, folder / "teacher.safetensors", "--threads", 1, *_TEST)


def _write_network(folder: Path) -> str:
    shutil.copytree(once(_write_teacher), folder, dirs_exist_ok=True)
    return "teacher.safetensors"


def _evaluate(folder: Path) -> str:
    return fsc("evaluate", folder / "teacher.safetensors", "--data", "digits", *_TEST)


def _compare(folder: Path) -> Any:
    fsc("compare", *_on_digits(folder), *("--scheme", "res-50", "--shots", 1, "--seeds", 2),
        *("--method", "l1", "--json", folder / "runs.json", "--resume"))  # fmt: skip
    return "shown"


def _write_runs(folder: Path) -> str:
    shutil.copytree(once(_compared), folder, dirs_exist_ok=True)
    return "runs.json"


def _compared(folder: Path) -> None:
    _write_teacher(folder)
    _compare(folder)


KINDS = (
    Kind("network to evaluate", _write_network, _evaluate, tensor_damage.SAFETENSORS),
    Kind("comparison", _write_runs, _compare, json_damage.ANY, writes="runs.json"),
)
"""All of them."""
