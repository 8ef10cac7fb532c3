"""Compiles every CUDA source for sm_80, 90, 100 and 120, and fails where registers spill.

python csrc/cuda/check.py

Needs nvcc 12.8 or newer, but neither a GPU nor a torch built for CUDA: a CPU torch carries the
headers. Prints the most registers and shared memory that a kernel of each file takes.
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


def command(nvcc: str, source: Path, output: Path) -> list[str]:
    """The call of nvcc; flags as in setup.py and as torch adds them to those."""
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
    includes = [f"-isystem={path}" for path in include_paths()]
    flags = ["-std=c++20", "-O3", "--fmad=false", "-Xptxas=-v", *COMMON_NVCC_FLAGS]
    defines = ["-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE"]
    own = [f"-I{ROOT / 'csrc'}"]
    return [nvcc, *flags, *defines, *targets, *own, *includes, "-c", str(source), "-o", str(output)]


def check(nvcc: str, source: Path) -> tuple[bool, str]:
    """Whether a file compiles without spills, and what to say about it."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command(nvcc, source, Path(folder) / "out.o"),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        return False, f"{source.name}: nvcc failed\n{done.stderr.strip()}"
    report = done.stdout + done.stderr
    spills = [int(count) for count in re.findall(r"(\d+) bytes spill stores", report)]
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", report)]
    if not registers:
        return False, f"{source.name}: ptxas named no kernel"
    return not any(spills), (
        f"{source.name}: {len(registers)} kernels over {len(ARCHITECTURES)} architectures, "
        f"at most {max(registers)} registers, {max(spills)} bytes spilled"
    )


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
        raise SystemExit("check-cuda: a file failed or spilled registers; see above")


if __name__ == "__main__":
    sys.exit(main())
