"""Memory that was freed: given back to the system, or kept for what comes next."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable


def _of_glibc(name: str, *kinds: type) -> Callable[..., int] | None:
    """A function of the GNU C library, where this is it."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        found = getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):  # another library, or one that is part of Python
        return None
    found.argtypes = kinds
    return found


_TRIM = _of_glibc("malloc_trim", ctypes.c_size_t)
_OPTION = _of_glibc("mallopt", ctypes.c_int, ctypes.c_int)
# Of mallopt: how much is free at the end of the heap before it is cut short, and how many blocks
# may be the system's own.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def give_back() -> None:
    """Let go of what was freed: the C library keeps it where something above it is held.

    Only blocks of 32 MB or more never lie there; activations of a minibatch are often smaller.
    Elsewhere than with the GNU C library nothing is done.
    """
    if _TRIM is not None:
        _TRIM(0)


def keep() -> None:
    """Have this process keep what it frees, until it ends or `give_back` is called.

    Blocks of 32 MB or more otherwise come from the system each time, page by page and zeroed: with
    photographs that is a quarter of all processor time. More is held at the peak in turn, between
    blocks of other sizes. For processes that are all fsc's; elsewhere than with the GNU C library
    nothing is done.
    """
    if _OPTION is not None:
        _OPTION(_MMAP_MAX, 0)
        _OPTION(_TRIM_THRESHOLD, sys.maxsize >> 32)
