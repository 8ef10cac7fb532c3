"""Calls of nvcc and cuobjdump, and what ptxas says of every kernel."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from torch.utils.cpp_extension import COMMON_NVCC_FLAGS, include_paths

ROOT = Path(__file__).resolve().parents[3]
ARCHITECTURES = (80, 90, 100, 120)
ENTRY = re.compile(
    r"Compiling entry function '(\w+)' for 'sm_(\d+)'.*?(\d+) bytes stack frame, "
    r"(\d+) bytes spill stores.*?Used (\d+) registers",
    re.DOTALL,
)


class Kernel(NamedTuple):
    """A variant of a kernel by its mangled name; bytes of stack and of spills."""

    name: str
    architecture: int
    stack: int
    spills: int
    registers: int


def nvcc_version(nvcc: str) -> str:
    """Its release, such as 13.0."""
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release (\d+\.\d+)", said)
    return found[1] if found else "unknown"


def command(nvcc: str, source: Path, architecture: int, output: Path) -> list[str]:
    """The call of nvcc; flags as in setup.py and as torch adds them to those."""
    # The host's half is the same for all, and only asked whether it compiles.
    what = ["-c", "-Xcompiler=-O0"] if architecture == ARCHITECTURES[0] else ["--cubin"]
    target = f"-gencode=arch=compute_{architecture},code=sm_{architecture}"
    includes = [f"-isystem={path}" for path in include_paths()]
    flags = ["-std=c++20", "-O3", "--fmad=false", "-Xptxas=-v", *COMMON_NVCC_FLAGS]
    defines = ["-DC10_CUDA_NO_CMAKE_CONFIGURE_FILE", "-DTORCH_EXTENSION_NAME=_C"]
    defines += ["-DFSC_WITH_CUDA=1", '-DFSC_CUDA_REASON="it is checked"']
    own = [f"-I{ROOT / 'csrc'}"]
    return [nvcc, *flags, *defines, target, *own, *includes, *what, str(source), "-o", str(output)]


def binary(folder: Path, architecture: int) -> Path:
    """What nvcc writes for an architecture."""
    return folder / f"{architecture}.o"


def compiled(nvcc: str, source: Path, architecture: int) -> list[Kernel]:
    """What ptxas says of every kernel.

    Raises:
        SystemExit: nvcc failed.
    """
    call = command(nvcc, source, architecture, binary(source.parent, architecture))
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"check-cuda: nvcc failed for sm_{architecture}\n{done.stderr.strip()}")
    found = ENTRY.findall(done.stdout + done.stderr)
    print(f"sm_{architecture}: {len(found)} kernels compiled", flush=True)
    return [Kernel(name, *map(int, numbers)) for name, *numbers in found]


def compiled_for_all(nvcc: str, folder: Path, architectures: Sequence[int]) -> list[Kernel]:
    """The kernels of all sources for some architectures, MAX_JOBS at a time, into a folder."""
    source = folder / "all.cu"
    names = sorted(path.name for path in (ROOT / "csrc" / "cuda").glob("*.cu"))
    lines = [f'#include "cuda/{name}"\n' for name in names]
    source.write_text("".join(lines), encoding="utf-8")
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS", "2"))) as pool:
        found = pool.map(lambda architecture: compiled(nvcc, source, architecture), architectures)
        return [kernel for kernels in found for kernel in kernels]


def ends_the_process(folder: Path, architectures: Sequence[int]) -> bool:
    """Whether the host's half, if compiled, exits, as nvcc makes functions of the device there."""
    if ARCHITECTURES[0] not in architectures:
        print(f"check-cuda: without sm_{ARCHITECTURES[0]} the host's half is not looked at")
        return False
    call = ["nm", "--undefined-only", str(binary(folder, ARCHITECTURES[0]))]
    said = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    return bool(re.search(r"\bU exit$", said, re.MULTILINE))


def _folders_of_tools() -> Iterator[Path]:
    """Where tools of CUDA may lie, other than on the path; those of Python's packages last."""
    if home := os.environ.get("CUDA_HOME"):
        yield Path(home) / "bin"
    packages = importlib.util.find_spec("nvidia")
    for place in (packages.submodule_search_locations or []) if packages else []:
        yield from sorted(Path(place).glob("*/bin"), reverse=True)


def disassemblers() -> tuple[str, str] | None:
    """cuobjdump, and the nvdisasm that it calls; None where there are not both."""
    path = os.pathsep.join([*map(str, _folders_of_tools()), os.environ.get("PATH", "")])
    found = shutil.which("cuobjdump", path=path), shutil.which("nvdisasm", path=path)
    return (found[0], found[1]) if found[0] and found[1] else None


def disassembled(tools: tuple[str, str], file: Path, names: list[str]) -> str:
    """The machine code of some kernels.

    Raises:
        SystemExit: cuobjdump failed.
    """
    cuobjdump, nvdisasm = tools
    # It looks for nvdisasm on the path alone.
    path = os.pathsep.join([str(Path(nvdisasm).parent), os.environ.get("PATH", "")])
    call = [cuobjdump, "-sass", "-fun", ",".join(names), str(file)]
    done = subprocess.run(
        call, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path}
    )
    if done.returncode != 0 or "Function :" not in done.stdout:
        said = (done.stderr or done.stdout).strip()
        raise SystemExit(f"check-cuda: cuobjdump could not read {file.name}: {said}")
    return done.stdout
