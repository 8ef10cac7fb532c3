"""torchvision and timm, optional, and made to import beside a torch for the CPU alone.

The wheels of torchvision on the package index hold operators compiled for CUDA. Beside a torch
without CUDA these do not load, and the import ends at "operator torchvision::nms does not exist",
where shapes are declared for them. Only networks for detection call them; the declarations are left
out, and everything else works.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import torch  # noqa: F401  # the operators of torchvision link to its libraries

_DECLARATIONS = "torchvision._meta_registrations"


def import_library(name: str) -> ModuleType:
    """Import "torchvision" or "timm".

    Raises:
        ImportError: it is not installed, or does not import beside this torch.
    """
    if importlib.util.find_spec(name) is None:
        raise ImportError(
            f"model {name}:NAME needs {name}, which is not installed: pip install 'fsc-ext[{name}]'"
        )
    leave_out_operators_that_do_not_load()
    try:
        return importlib.import_module(name)
    except (ImportError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ImportError(
            f"model {name}:NAME needs {name}, which does not import beside torch "
            f"{torch.__version__}: {reason}; install the version that belongs to this torch"
        ) from error


def leave_out_operators_that_do_not_load() -> None:
    """Let `import torchvision` pass where its compiled operators do not fit the torch at hand."""
    found = importlib.util.find_spec("torchvision")
    if found is None or found.origin is None or "torchvision" in sys.modules:
        return
    for library in Path(found.origin).parent.glob("_C.*"):
        try:
            ctypes.CDLL(str(library))
        except OSError:
            sys.modules.setdefault(_DECLARATIONS, ModuleType(_DECLARATIONS))
