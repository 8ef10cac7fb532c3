"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable


def _trim() -> Callable[[int], int] | None:
    """`malloc_trim` of the GNU C library, where this is it."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # another library, or one that is part of Python
        return None
    trim.argtypes = [ctypes.c_size_t]
    return trim


_TRIM = _trim()


def give_back() -> None:
    """Let go of what was freed: the C library keeps it where something above it is held.

    Only blocks of 32 MB or more never lie there; activations of a minibatch are often smaller.
    Elsewhere than with the GNU C library nothing is done.
    """
    if _TRIM is not None:
        _TRIM(0)
