"""Whether the CUDA kernels are compiled, and for which GPUs.

The torch and the toolkit at hand decide, never a visible GPU: machines that build often have none.
FSC_CUDA=0 or 1 overrides; TORCH_CUDA_ARCH_LIST and FSC_CUDA_ARCHS=all name the architectures.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import torch


def name_toolkit() -> None:
    """Tell torch the folder that nvcc itself calls its own, where nobody has named one.

    Torch would guess it from the path, on which nvcc may be a link or a script: then the build
    ends where it links, without the library of the run time.
    """
    nvcc = shutil.which("nvcc")
    if nvcc and not (os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")):
        # What it would do with a file, which need not be there, begins with its folders.
        said = subprocess.run([nvcc, "--dryrun", "x.cu"], capture_output=True, text=True).stderr
        if found := re.search(r"^#\$ TOP=(.+)$", said, re.MULTILINE):
            os.environ["CUDA_HOME"] = str(Path(found[1]).resolve())


name_toolkit()

from torch.utils import cpp_extension  # noqa: E402

OLDEST_GPU = (8, 0)  # the kernels copy to shared memory without registers


def decision() -> tuple[bool, str]:
    """Whether to compile the CUDA kernels, and why."""
    override = os.environ.get("FSC_CUDA", "")
    if override not in ("", "0", "1"):
        raise SystemExit(f"FSC_CUDA must be 0 or 1 when it is set, got {override!r}")
    if override == "0":
        return False, "FSC_CUDA=0"
    if torch.version.cuda is None:
        reason = "this torch is a CPU build"
    elif (toolkit := toolkit_version()) is None:
        reason = "no CUDA toolkit was found (CUDA_HOME, or nvcc on the path)"
    else:
        _require_same_major(toolkit)
        _require_runtime_library()
        return True, f"torch was built for CUDA {torch.version.cuda}, the toolkit is {toolkit}"
    if override == "1":
        raise SystemExit(f"FSC_CUDA=1 asks for the CUDA kernels, but {reason}")
    return False, reason


def toolkit_version() -> str | None:
    """The version of the nvcc that torch would call, such as 13.0; None where there is none."""
    nvcc = Path(cpp_extension.CUDA_HOME or "") / "bin" / "nvcc"
    if cpp_extension.CUDA_HOME is None or not nvcc.is_file():
        return None
    said = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=False).stdout
    found = re.search(r"release (\d+\.\d+)", said)
    return found[1] if found else None


def _require_same_major(toolkit: str) -> None:
    if toolkit.split(".")[0] != str(torch.version.cuda).split(".")[0]:
        raise SystemExit(
            f"fsc-ext: torch was built for CUDA {torch.version.cuda}, but the toolkit in "
            f"{cpp_extension.CUDA_HOME} is {toolkit}: the CUDA kernels need the same major version "
            "(CUDA_HOME names another toolkit); FSC_CUDA=0 builds without them"
        )


def _require_runtime_library() -> None:
    """Links nothing with it: cheaper than to find out after all files have been compiled."""
    compiler = cpp_extension.get_cxx_compiler().split()
    folders = [f"-L{folder}" for folder in cpp_extension.library_paths("cuda")]
    command = [*compiler, "-shared", *folders, "-lcudart", "-o", os.devnull]
    if shutil.which(compiler[0]) and subprocess.run(command, capture_output=True).returncode:
        raise SystemExit(
            f"fsc-ext: the CUDA toolkit in {cpp_extension.CUDA_HOME} has no libcudart to link with "
            "(CUDA_HOME names another toolkit); FSC_CUDA=0 builds without the CUDA kernels"
        )


def architectures() -> tuple[str | None, str]:
    """The list as torch reads it, None where torch takes those of the visible GPUs, and why."""
    every = os.environ.get("FSC_CUDA_ARCHS", "")
    if every not in ("", "all"):
        raise SystemExit(f"FSC_CUDA_ARCHS must be all when it is set, got {every!r}")
    if listed := os.environ.get("TORCH_CUDA_ARCH_LIST"):
        return listed, "TORCH_CUDA_ARCH_LIST"
    major, minor = str(torch.version.cuda).split(".")[:2]
    # The toolkits before 12.8 know no GPU beyond Hopper.
    recent = (int(major), int(minor)) >= (12, 8)
    known = ["8.0", "9.0", "10.0", "12.0"] if recent else ["8.0", "9.0"]
    if every:
        return ";".join(known) + "+PTX", "FSC_CUDA_ARCHS=all"
    visible = [torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())]
    if visible:
        return None, _visible(visible)
    why = f"no GPU is visible; FSC_CUDA_ARCHS=all takes {', '.join(known)}"
    return known[-1] + "+PTX", f"{why}, TORCH_CUDA_ARCH_LIST any"


def threads_of_nvcc(names: str | None) -> list[str]:
    """The flag that compiles several architectures at the same time instead of in turn."""
    # Two at most: each file that compiles at the same time has so many compilers.
    count = min(2, len(re.split("[; ]+", names))) if names else 1
    return [f"--threads={count}"] if count > 1 else []


def _visible(capabilities: list[tuple[int, int]]) -> str:
    names = ", ".join(f"{major}.{minor}" for major, minor in sorted(set(capabilities)))
    if min(capabilities) < OLDEST_GPU:
        raise SystemExit(
            "fsc-ext: the CUDA kernels need GPUs of compute capability 8.0 or newer, visible are "
            f"{names}: FSC_CUDA=0 builds without them, CUDA_VISIBLE_DEVICES hides a GPU"
        )
    return f"the visible GPUs are {names}"
