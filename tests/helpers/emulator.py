"""The emulator of the CUDA kernels in the place of those of the CPU, for this process."""

import os
from pathlib import Path

import torch

import fsc_ext  # noqa: F401  The schemas must be there before other implementations load.

_BUILT = Path(__file__).resolve().parents[2] / "build" / "emulation" / "fsc_emulated.so"


def path() -> Path:
    """What csrc/emulation/build.py built, or what FSC_EMULATE names where it is not 1."""
    given = os.environ["FSC_EMULATE"]
    return _BUILT if given == "1" else Path(given)


def load() -> None:
    """Loads it."""
    torch.ops.load_library(path())
