"""Every command with --device: on another device it writes what it writes on the CPU.

As tests/fsc/test_other_device.py this file runs itself in a process of its own.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from known_groups import found_once
from stand_in import run_alone, stand_in
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from fsc.cli import demo, main

TINY = {"epochs": 1, "num_shots": 1, "mir_steps": 2, "methods": ("cd-soft", "mir-before")}
# What tests/fsc/test_other_device.py tries by every method is here tried by one of each sort:
# without images, by solving layers, by training with labels.
EVERY_SORT = ["--method", "l1", "--method", "cd-nc", "--method", "kd"]
FEW_TESTED = ["--test-images", "50"]
# Arguments of each command, the teacher's left out, and the file whose content counts.
COMMANDS = {
    "compress": (
        ["--method", "cd-soft", "--shots", "1", "--augment", "mirror", *FEW_TESTED],
        "report.json",
    ),
    "compare": (
        [*EVERY_SORT, "--shots", "1", "--seeds", "1", "--mir-steps", "2", *FEW_TESTED],
        "runs.json",
    ),
    "analyse": (["--method", "cd-convex", "--shots", "1", *FEW_TESTED], "errors.json"),
    "sweep": (
        ["--over", "images", "--values", "3,6", "--seeds", "1", "--mir-steps", "2", *FEW_TESTED],
        "runs.json",
    ),
    "grid": (["--shots", "1", "--objective", "convex", "--intervals", "1"], "points.json"),
}


@pytest.fixture(scope="module")
def folders(
    small_on_digits: list[object], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """What all commands wrote on each device."""
    folder = tmp_path_factory.mktemp("devices")
    run_alone(__file__, str(folder), *map(str, small_on_digits))
    return {device: folder / device for device in ("cpu", "stand_in")}


# What is measured by a clock, and the device itself.
DIFFERING = ("seconds", "milliseconds", "milliseconds_teacher", "device")


def alike(one: Any, other: Any) -> bool:
    """Whether two reports have the same in what may not differ between devices."""
    if isinstance(one, dict) and isinstance(other, dict):
        compared = one.keys() - set(DIFFERING)
        return one.keys() == other.keys() and all(alike(one[k], other[k]) for k in compared)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-5)
    return one == other


@pytest.mark.parametrize("verb", [*COMMANDS, "demo"])
def test_the_other_device_reports_what_the_cpu_reports(folders: dict[str, Path], verb: str) -> None:
    file = COMMANDS[verb][1] if verb in COMMANDS else "report.json"
    reports = {name: json.loads((f / verb / file).read_text()) for name, f in folders.items()}
    assert alike(reports["cpu"], reports["stand_in"])
    if verb == "compress":
        assert [report["device"] for report in reports.values()] == ["cpu", "stand_in:0"]
    if verb == "compare":
        assert [report["device"] for report in reports.values()] == ["cpu", "stand_in"]


def test_the_student_on_disk_is_the_same_file(folders: dict[str, Path]) -> None:
    for file in ("compress/model.safetensors", "demo/teacher.safetensors"):
        on_cpu, elsewhere = ((folder / file).read_bytes() for folder in folders.values())
        assert on_cpu == elsewhere, file


def test_evaluation_prints_the_same(folders: dict[str, Path]) -> None:
    shown = [(folder / "evaluate").read_text().splitlines() for folder in folders.values()]
    for lines in shown:
        (row,) = [index for index, line in enumerate(lines) if line.startswith(" model ")]
        cells = lines[row].split()
        lines[row] = " ".join([*cells[:-3], *cells[-2:]])  # the last but FLOPs are milliseconds
    assert shown[0] == shown[1]


# The kinds of device that layers ran on since the last look.
RAN_ON: set[str] = set()


def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
    # No proxy of torch.fx; channel groups are found on a copy in float64 on the CPU.
    if isinstance(inputs[0], Tensor) and inputs[0].dtype != torch.float64:
        RAN_ON.add(inputs[0].device.type)


def check_ran_on(device: str) -> None:
    assert RAN_ON == {device}, f"{RAN_ON} instead of {device}"
    RAN_ON.clear()


def run(*arguments: str) -> str:
    """What a command prints, whose last argument is the device that all layers must run on."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    check_ran_on(arguments[-1])
    return result.stdout


def run_all(given: list[str], folder: Path, device: str) -> None:
    """Every command on one device, each into a folder of its own."""
    for verb, (arguments, file) in COMMANDS.items():
        (folder / verb).mkdir(parents=True)
        output = folder / verb
        target = ["--output", str(output)] if verb == "compress" else ["--json", str(output / file)]
        run(verb, *given, *arguments, *target, "--device", device)
    model = str(folder / "compress" / "model.safetensors")
    printed = run("evaluate", model, *given[:4], "--device", device)
    (folder / "evaluate").write_text(printed)
    demo.demonstrate(folder / "demo", 0, demo.Plan(**TINY, device=torch.device(device)))
    check_ran_on(device)


if __name__ == "__main__":
    torch.set_num_threads(1)
    stand_in()
    register_module_forward_pre_hook(note)
    with found_once("fsc.models."):
        for name in ("cpu", "stand_in"):
            run_all(sys.argv[2:], Path(sys.argv[1]) / name, name)
