"""What the project's own host code launches, written down by the host emulator and not run.

csrc/emulation/recorder.cpp says of each launch the kernel, its grid, and the bytes of the tensors
that it is given. Of kernels with tensor cores one block of the middle runs, for its counts alone.
Needs build/emulation/fsc_emulated.so (csrc/emulation/build.py), which takes the place of the CPU
kernels in this process for good.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch

import fsc_ext  # noqa: F401  The schemas must be there before other implementations load.

ROOT = Path(__file__).resolve().parents[3]
LIBRARY = ROOT / "build" / "emulation" / "fsc_emulated.so"
MULTIPROCESSORS = 132  # H100 SXM
SHARED_BYTES = 227 << 10
# Of ATen: a kernel each, on a device.
LIBRARY_KERNELS = (
    *("aten::copy_", "aten::fill_", "aten::zero_", "aten::mul", "aten::mul_", "aten::neg"),
    *("aten::addcmul_", "aten::convolution", "aten::convolution_backward"),
)


class Launch(NamedTuple):
    """A launch of a kernel, by its mangled name."""

    kernel: str
    blocks_x: int
    blocks_y: int
    threads: int
    shared_bytes: int
    together: bool  # its blocks wait for each other
    buffer_bytes: int  # of all tensors that it is given, each once
    products: int  # tensor core instructions of the busiest warp of a block
    copied_bytes: int  # by asynchronous copies of a block
    waits: int  # of a block for others

    @property
    def blocks(self) -> int:
        """In both directions."""
        return self.blocks_x * self.blocks_y

    @property
    def warps(self) -> int:
        """Of a block."""
        return -(-self.threads // 32)


class Recorded(NamedTuple):
    """The launches of one call, and how many kernels of ATen it calls by name."""

    launches: list[Launch]
    library: dict[str, int]


def parsed(lines: str) -> Recorded:
    """Launches and operators from the lines of the recorder."""
    found = Recorded([], {})
    for line in lines.splitlines():
        kernel, *numbers = line.split()
        if len(numbers) == len(Launch._fields) - 1:
            values = [int(number) for number in numbers]
            found.launches.append(Launch(kernel, *values[:4], bool(values[4]), *values[5:]))
        elif kernel in LIBRARY_KERNELS:
            found.library[kernel] = found.library.get(kernel, 0) + 1
    return found


class Recorder:
    """The emulator as a device of which launches are written down; a context."""

    def __init__(
        self,
        counted: Iterable[str] = (),
        multiprocessors: int = MULTIPROCESSORS,
        shared_bytes: int = SHARED_BYTES,
    ) -> None:
        """Load the emulator; a block of each kernel that `counted` names is counted.

        Raises:
            SystemExit: it has not been built.
        """
        if not LIBRARY.is_file():
            raise SystemExit(
                f"check-cuda: {LIBRARY} is not there; python csrc/emulation/build.py makes it"
            )
        torch.ops.load_library(LIBRARY)
        self.library = ctypes.CDLL(str(LIBRARY))
        self.library.fsc_recorded.restype = ctypes.c_char_p
        self.device = (ctypes.c_int64(multiprocessors), ctypes.c_int64(shared_bytes))
        # As mangled names hold them: behind their length, so that no longer name ends in one.
        self.counted = " ".join(f"{len(name)}{name}" for name in counted).encode()

    def __enter__(self) -> Recorder:
        """Launches are written down from here on; tensors made before are not known."""
        self.library.fsc_record(*self.device, self.counted)
        return self

    def __exit__(self, *_: object) -> None:
        """Launches run again."""
        self.library.fsc_stop_recording()

    def recorded(self, call: Callable[[], object]) -> Recorded:
        """What a call launches."""
        self.library.fsc_recorded()
        call()
        return parsed(self.library.fsc_recorded().decode())
