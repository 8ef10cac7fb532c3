"""Compiles all CUDA sources for sm_80, 90, 100 and 120; fails where a hot kernel spills registers.

python csrc/cuda/check.py

Needs nvcc 12.8 or newer, but neither a GPU nor a torch built for CUDA: a CPU torch carries the
headers. They take longer than the kernels, so the sources are compiled as one file; that each
includes what it needs shows where the emulator compiles them one by one. Prints the most registers
that each kernel takes, and every variant that spills: the slow path of a float64 division saves a
few registers, which does no harm outside hot loops. Other local memory counts too: a parameter may
be copied there to be indexed.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from torch.utils.cpp_extension import COMMON_NVCC_FLAGS, include_paths

ROOT = Path(__file__).resolve().parents[2]
ARCHITECTURES = (80, 90, 100, 120)
# Kernels whose time is that of their inner loop.
HOT = (
    "layer_kernel",
    "stored_kernel",
    "weight_gradient_kernel",
    "quadratic_kernel",
    "gram_tiles_kernel",
    "resident_moments_kernel",
    "resident_images_kernel",
    "adam_kernel",
    "sgd_kernel",
    "soft_threshold_kernel",
    "mix_kernel",
    "residual_kernel",
)
ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for '(sm_\d+)'.*?(\d+) bytes stack frame, "
    r"(\d+) bytes spill stores.*?Used (\d+) registers",
    re.DOTALL,
)
# Of a kernel in its mangled name.
NAME = re.compile(r"\d([a-z_]+_kernel)")


class Kernel(NamedTuple):
    """A variant of a kernel; bytes of stack and of spills."""

    name: str
    target: str
    stack: int
    spills: int
    registers: int


def command(nvcc: str, source: Path, architecture: int, output: Path) -> list[str]:
    """The call of nvcc; flags as in setup.py and as torch adds them to those."""
    # The host's half is the same for all, and only asked whether it compiles.
    what = ["-c", "-Xcompiler=-O0"] if architecture == ARCHITECTURES[0] else ["--cubin"]
    target = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    includes = [f"-isystem={path}" for path in include_paths()]
    flags = ["-std=c++20", "-O3", "--fmad=false", "-Xptxas=-v", *COMMON_NVCC_FLAGS]
    defines = ["-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE"]
    own = [f"-I{ROOT / 'csrc'}"]
    return [nvcc, *flags, *defines, target, *own, *includes, *what, str(source), "-o", str(output)]


def compiled(nvcc: str, source: Path, architecture: int) -> list[Kernel]:
    """What ptxas says of every kernel.

    Raises:
        SystemExit: nvcc failed.
    """
    call = command(nvcc, source, architecture, source.with_name(f"{architecture}.o"))
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"check-cuda: nvcc failed for sm_{architecture}\n{done.stderr.strip()}")
    found = ENTRY.findall(done.stdout + done.stderr)
    print(f"sm_{architecture}: {len(found)} kernels compiled", flush=True)
    return [Kernel(name, target, *map(int, numbers)) for name, target, *numbers in found]


def compiled_for_all(nvcc: str) -> list[Kernel]:
    """The kernels of all sources for every architecture, two at a time."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        source = Path(folder) / "all.cu"
        names = sorted(path.name for path in (ROOT / "csrc" / "cuda").glob("*.cu"))
        lines = [f'#include "cuda/{name}"\n' for name in names]
        source.write_text("".join(lines), encoding="utf-8")
        found = pool.map(lambda architecture: compiled(nvcc, source, architecture), ARCHITECTURES)
        return [kernel for kernels in found for kernel in kernels]


def is_hot(name: str) -> bool:
    """Whether a mangled name is that of a hot kernel; float64, for gradient checks, never is."""
    return any(hot in name and f"{hot}Id" not in name for hot in HOT)


def main() -> None:
    """Checks all sources."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise SystemExit("check-cuda: nvcc was not found on the PATH; install a CUDA toolkit")
    variants = defaultdict(list)
    for kernel in compiled_for_all(nvcc):
        named = NAME.search(kernel.name)
        variants[named[1] if named else kernel.name].append(kernel)
    if not variants:
        raise SystemExit("check-cuda: ptxas named no kernel")
    failed = False
    for name, kernels in sorted(variants.items()):
        most = max(kernel.registers for kernel in kernels)
        print(f"{name}: {len(kernels)} variants, at most {most} registers")
        for kernel in kernels:
            if kernel.stack or kernel.spills:
                print(f"  {kernel.spills} bytes spilled, {kernel.stack} bytes of local memory by "
                      f"{kernel.name} for {kernel.target}")  # fmt: skip
                failed |= is_hot(kernel.name)
    if failed:
        raise SystemExit("check-cuda: a hot kernel uses local memory; see above")


if __name__ == "__main__":
    sys.exit(main())
