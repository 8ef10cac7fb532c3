"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable


def _trim() -> Callable[[int], int] | None:
    """`malloc_trim` of the GNU C library, where this is it."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


_TRIM = _trim()


def give_back() -> None:
    """Let go of what was freed: the C library keeps blocks below 32 MB to use them again.

    Activations of a minibatch are often such blocks, and what lies between two that are held stays.
    Elsewhere than with the GNU C library nothing is done.
    """
    if _TRIM is not None:
        _TRIM(0)
