"""Builds the extension `fsc_ext._C` and installs the packages `fsc_ext` and `fsc`.

The list of sources is csrc/sources.txt, which CMakeLists.txt reads too. CUDA is decided by the
torch and the toolkit at hand, never by a visible GPU; FSC_CUDA=0 or 1 overrides.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pybind11
import torch
from setuptools import find_packages, setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

RUNTIME = [
    "click>=8.1",
    "matplotlib>=3.8",
    "numpy>=1.26",
    "rich>=13",
    "safetensors>=0.4",
    "scikit-learn>=1.4",
    "torch-pruning>=1.5,<2",
]


def cuda_decision(sources: list[str]) -> tuple[bool, str]:
    """Whether to compile the CUDA kernels, and why."""
    override = os.environ.get("FSC_CUDA", "")
    if override not in ("", "0", "1"):
        raise SystemExit(f"FSC_CUDA must be 0 or 1 when it is set, got {override!r}")
    if override == "0":
        return False, "FSC_CUDA=0"
    if torch.version.cuda is None:
        reason = "this torch is a CPU build"
    elif CUDA_HOME is None:
        reason = "no CUDA toolkit was found (CUDA_HOME)"
    elif not any(source.endswith(".cu") for source in sources):
        reason = "this version has no CUDA kernels yet"
    else:
        return True, f"torch was built for CUDA {torch.version.cuda} and a toolkit was found"
    if override == "1":
        raise SystemExit(f"FSC_CUDA=1 asks for the CUDA kernels, but {reason}")
    return False, reason


def architectures() -> str:
    """For which GPUs: all that a kernel runs on, where torch would take those that it sees."""
    newest = "8.0;9.0;10.0;12.0+PTX"
    major, minor = str(torch.version.cuda).split(".")[:2]
    # The toolkits before 12.8 know no GPU beyond Hopper.
    return newest if (int(major), int(minor)) >= (12, 8) else "8.0;9.0+PTX"


def torch_requirement() -> str:
    """The minor version of torch compiled against: its C++ interface may change with the next."""
    major, minor = torch.__version__.split(".")[:2]
    return f"torch>={major}.{minor},<{major}.{int(minor) + 1}"


def extension() -> CppExtension | CUDAExtension:
    """The extension module, with CUDA kernels where `cuda_decision` says so."""
    listed = Path("csrc/sources.txt").read_text(encoding="utf-8").split()
    with_cuda, reason = cuda_decision(listed)
    print(f"fsc_ext: CUDA {'on' if with_cuda else 'off'}: {reason}")
    if with_cuda:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", architectures())
    kind = CUDAExtension if with_cuda else CppExtension
    # Contracted multiply-adds would round differently from the reference: element-wise operators
    # are tested for equality, bit by bit. Square roots that set no errno only vectorise.
    exact = ["-ffp-contract=off", "-fno-math-errno"]
    cxx = ["-O3", "-std=c++20", "-fopenmp", *exact, "-fvisibility=hidden", "-Wall"]
    arguments = {"cxx": cxx, "nvcc": ["-O3", "-std=c++20", "--fmad=false"]}
    return kind(
        "fsc_ext._C",
        [source for source in listed if with_cuda or not source.endswith(".cu")],
        include_dirs=[str(Path("csrc").resolve()), pybind11.get_include()],
        define_macros=[
            ("FSC_WITH_CUDA", str(int(with_cuda))),
            ("FSC_CUDA_REASON", f'"{reason}"'),
        ],
        extra_compile_args=arguments if with_cuda else {"cxx": cxx},
        extra_link_args=["-s"] if platform.system() == "Linux" else [],
    )


setup(
    packages=find_packages(include=["fsc_ext*"]) + find_packages("python"),
    package_dir={"fsc": "python/fsc"},
    package_data={"fsc_ext": ["py.typed"], "fsc": ["py.typed"]},
    ext_modules=[extension()],
    cmdclass={"build_ext": BuildExtension.with_options(use_ninja=True)},
    install_requires=[torch_requirement(), *RUNTIME],
)
