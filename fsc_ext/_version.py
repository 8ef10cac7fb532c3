"""The check that the torch at hand is the one the extension was compiled against."""

import mmap
import re
from pathlib import Path

# csrc/registration.cpp writes it into the compiled module.
_COMPILED_AGAINST = re.compile(
    rb"fsc_ext was compiled against torch \[([^\]]+)\] CUDA \[([^\]]*)\]"
)
_REMEDY = "build it again with `pip install --no-build-isolation --force-reinstall --no-deps .`"


def compiled_against(module: Path) -> tuple[str, str]:
    """Return the versions of torch and of CUDA, "" without kernels, that a module was made for.

    They stand in the file, which is read and not loaded: beside another torch it lacks symbols.

    Raises:
        ImportError: the file holds no such versions.
    """
    with module.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = _COMPILED_AGAINST.search(content)
        if found is None:
            raise ImportError(f"fsc_ext: {module} is none of its compiled modules; {_REMEDY}")
        return found[1].decode(), found[2].decode()


def require_matching_torch(built: str, running: str) -> None:
    """Compares minor versions: PyTorch's C++ interface may change between them.

    Raises:
        ImportError: they differ; the sentence says how to build again.
    """
    if built.split(".")[:2] != running.split(".")[:2]:
        raise ImportError(
            f"fsc_ext was compiled against torch {built}, but torch {running} is running; {_REMEDY}"
        )


def require_matching_cuda(built: str, running: str | None) -> None:
    """Compares major versions of CUDA; without kernels, `built` is empty and any torch will do.

    Raises:
        ImportError: they differ, or torch was built for the CPU alone.
    """
    if built and built.split(".")[0] != (running or "").split(".")[0]:
        has = f"torch for CUDA {running}" if running else "a torch for the CPU alone"
        raise ImportError(
            f"fsc_ext was compiled with kernels for CUDA {built}, but {has} is running; {_REMEDY}"
        )
