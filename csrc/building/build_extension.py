"""The extension `fsc_ext._C`: its sources and flags, and a build that says what it does."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import sys
import sysconfig
from pathlib import Path

import build_cuda
import build_torch
import torch
from build_narration import narrated
from setuptools import Extension
from torch.utils.cpp_extension import (
    BuildExtension,
    CppExtension,
    CUDAExtension,
    get_cxx_compiler,
    is_ninja_available,
)

ROOT = Path(__file__).resolve().parents[2]

# A virtual environment's ninja is found though nobody has activated it.
os.environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])

# Contracted multiply-adds would round differently from the reference: element-wise operators
# are tested for equality, bit by bit. Square roots that set no errno only vectorise, and without
# traps a ReLU is no branch before AVX-512 either: neither changes a value.
CXX = ["-O3", "-std=c++20", "-fopenmp", "-ffp-contract=off", "-fno-math-errno"]
CXX += ["-fno-trapping-math", "-fvisibility=hidden", "-Wall"]
# Python's own flags often ask for debugging symbols: a fifth of the time, for what -s drops again.
CXX += ["-g0"]
NVCC = ["-O3", "-std=c++20", "--fmad=false"]


def extension() -> Extension:
    """The extension module, with CUDA kernels where `build_cuda.decision` says so."""
    listed = (ROOT / "csrc" / "sources.txt").read_text(encoding="utf-8").split()
    with_cuda, reason = build_cuda.decision()
    nvcc = NVCC
    if with_cuda:
        names, why = build_cuda.architectures()
        reason += f"; for {names or 'the GPUs here'}: {why}"
        nvcc = [*NVCC, *build_cuda.threads_of_nvcc(names)]
        if names:
            os.environ["TORCH_CUDA_ARCH_LIST"] = names
    kind = CUDAExtension if with_cuda else CppExtension
    module = kind(
        "fsc_ext._C",
        [source for source in listed if with_cuda or not source.endswith(".cu")],
        include_dirs=[str(ROOT / "csrc"), *_pybind11_folder()],
        define_macros=[
            ("FSC_WITH_CUDA", str(int(with_cuda))),
            ("FSC_CUDA_VERSION", f'"{torch.version.cuda if with_cuda else ""}"'),
            ("FSC_CUDA_REASON", f'"{reason}"'),
        ],
        extra_compile_args={"cxx": CXX, "nvcc": nvcc} if with_cuda else {"cxx": CXX},
        extra_link_args=["-s"] if platform.system() == "Linux" else [],
    )
    module.notes = [
        f"torch {torch.__version__} in {Path(torch.__file__).parents[1]}",
        f"CUDA {'on' if with_cuda else 'off'}: {reason}",
    ]
    if build_torch.minor_version(torch.__version__) > build_torch.NEWEST:
        newest = ".".join(map(str, build_torch.NEWEST))
        module.notes.append(f"this torch is newer than {newest}, the newest that has been tried")
    return module


def _pybind11_folder() -> list[str]:
    """The headers of pybind11; torch carries a copy among its own."""
    try:
        import pybind11
    except ImportError:
        return []
    return [pybind11.get_include()]


class Compile(BuildExtension):
    """Compiles with ninja, file by file in words; objects stay, each torch has its own."""

    def finalize_options(self) -> None:
        """As setuptools, but with one folder of objects for every way to build."""
        super().finalize_options()
        self.build_temp = os.path.join(
            "build", f"objects-{sys.implementation.cache_tag}-torch{torch.__version__}"
        )

    def build_extensions(self) -> None:
        """Compile and link; a failure ends in one sentence below the compiler's own."""
        _require_compiler()
        jobs = os.environ.setdefault("MAX_JOBS", str(os.cpu_count() or 1))
        (module,) = self.extensions
        count = len(module.sources)
        how = (
            f"{jobs} at a time (MAX_JOBS)" if is_ninja_available() else "one by one, without ninja"
        )
        for note in [*module.notes, f"{count} files, {how}, each 10 to 30 s on one core"]:
            print(f"fsc_ext: {note}", flush=True)
        try:
            with narrated(count):
                super().build_extensions()
        except RuntimeError as error:
            raise SystemExit(
                f"fsc-ext: did not compile against torch {torch.__version__}: {error}; the "
                "compiler's words stand above"
            ) from error


def _require_compiler() -> None:
    compiler = shlex.split(get_cxx_compiler())[0]
    if shutil.which(compiler) is None:
        raise SystemExit(
            f"fsc-ext: the build needs a compiler of C++20, and {compiler!r} was not found: "
            "install g++ 10 or newer, or name one in CXX"
        )
    headers = sysconfig.get_path("include")
    if not os.path.isfile(os.path.join(headers, "Python.h")):
        raise SystemExit(
            f"fsc-ext: the build needs the headers of Python, and {headers} holds no Python.h: "
            "install them (python3-dev on Debian)"
        )
