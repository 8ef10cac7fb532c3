"""With FSC_EMULATE=1 the device code runs in the place of the CPU kernels, on the host emulator."""

import os
from pathlib import Path

import torch

import fsc_ext  # noqa: F401  The schemas must be there before other implementations load.

if os.environ.get("FSC_EMULATE"):
    _LIBRARY = Path(__file__).resolve().parents[2] / "build" / "emulation" / "fsc_emulated.so"
    torch.ops.load_library(_LIBRARY)
