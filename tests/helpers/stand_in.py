"""The stand-in device of tests/stand_in/device.cpp, made known to PyTorch."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import torch
from torch.utils.cpp_extension import load

_ROOT = Path(__file__).resolve().parents[2]
_NAME = "stand_in"


def stand_in() -> torch.device:
    """Builds the device where it has changed (some 20 s) and registers it.

    A process keeps it until it ends, and PyTorch takes it for the machine's accelerator: call this
    in a process of its own, such as `run_alone` starts.
    """
    build = _ROOT / "build" / "stand_in"
    build.mkdir(parents=True, exist_ok=True)
    # One process at a time; the system takes this lock off a process that is killed.
    with open(build / "building", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (build / "lock").unlink(missing_ok=True)  # that a killed build left, and load() waits for
        load(
            "stand_in_device",
            [str(_ROOT / "tests" / "stand_in" / "device.cpp")],
            extra_cflags=["-O1", "-std=c++20"],
            build_directory=str(build),
            is_python_module=False,
        )
    torch.utils.rename_privateuse1_backend(_NAME)
    torch._register_device_module(_NAME, _module())
    return torch.device(_NAME, 0)


def run_alone(script: str, *arguments: str) -> str:
    """Runs a Python file in a process of its own and returns what it printed."""
    tools = Path(sys.executable).parent  # ninja, where the virtual environment is not activated
    variables = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PATH": os.pathsep.join([str(tools), os.environ["PATH"]]),
    }
    command = [sys.executable, script, *arguments]
    process = subprocess.run(command, capture_output=True, text=True, env=os.environ | variables)
    assert process.returncode == 0, process.stderr
    return process.stdout


def _module() -> ModuleType:
    """What PyTorch asks of torch.<device>, seeding above all."""
    module = ModuleType(f"torch.{_NAME}")
    answers = {
        "_is_in_bad_fork": lambda: False,
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "manual_seed_all": lambda seed: None,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
    }
    for name, answer in answers.items():
        setattr(module, name, answer)
    return module
