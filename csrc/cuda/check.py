"""Compiles every CUDA source for sm_80, 90, 100 and 120; fails where a hot kernel spills registers.

python csrc/cuda/check.py

Needs nvcc 12.8 or newer, but neither a GPU nor a torch built for CUDA: a CPU torch carries the
headers. Prints the most registers that a kernel of each file takes, and every kernel that spills:
the slow path of a float64 division saves a few registers, which does no harm outside hot loops.
Other local memory counts too: a parameter may be copied there to be indexed.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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


def command(nvcc: str, source: Path, output: Path) -> list[str]:
    """The call of nvcc; flags as in setup.py and as torch adds them to those."""
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
    includes = [f"-isystem={path}" for path in include_paths()]
    flags = ["-std=c++20", "-O3", "--fmad=false", "-Xptxas=-v", *COMMON_NVCC_FLAGS]
    defines = ["-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE"]
    own = [f"-I{ROOT / 'csrc'}"]
    return [nvcc, *flags, *defines, *targets, *own, *includes, "-c", str(source), "-o", str(output)]


def check(nvcc: str, source: Path) -> tuple[bool, str]:
    """Whether a file compiles without spills or local memory, and what to say about it."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command(nvcc, source, Path(folder) / "out.o"),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        return False, f"{source.name}: nvcc failed\n{done.stderr.strip()}"
    kernels = ENTRY.findall(done.stdout + done.stderr)
    if not kernels:
        return False, f"{source.name}: ptxas named no kernel"
    most = max(int(registers) for *_, registers in kernels)
    local = [kernel for kernel in kernels if kernel[2:4] != ("0", "0")]
    lines = [f"{source.name}: {len(kernels)} kernels, at most {most} registers"]
    lines += [
        f"  {spill} bytes spilled, {frame} bytes of local memory by {name} for {target}"
        for name, target, frame, spill, _ in local
    ]
    return not any(is_hot(name) for name, *_ in local), "\n".join(lines)


def is_hot(name: str) -> bool:
    """Whether a mangled name is that of a hot kernel; float64, for gradient checks, never is."""
    return any(hot in name and f"{hot}Id" not in name for hot in HOT)


def main() -> None:
    """Checks all files, two at a time."""
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise SystemExit("check-cuda: nvcc was not found on the PATH; install a CUDA toolkit")
    sources = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda source: check(nvcc, source), sources))
    for _, sentence in results:
        print(sentence)
    if not all(passed for passed, _ in results):
        raise SystemExit("check-cuda: a file failed or a hot kernel uses local memory; see above")


if __name__ == "__main__":
    sys.exit(main())
