"""Tests of a file, run again in a process of their own with other instructions of the CPU."""

import os
import subprocess
import sys

import pytest

from fsc_ext.testing import EMULATED

# Set where torch and fsc_ext are told what to use, as in the process that is started here.
TOLD = "ATEN_CPU_CAPABILITY"
of_the_cpu = pytest.mark.skipif(
    EMULATED or TOLD in os.environ, reason="of the CPU's own kernels, and not in itself"
)


def assert_passes_with_avx2(file: str) -> None:
    """Where AVX-512 is there, this is the only way to the kernels that are for AVX2."""
    call = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    done = subprocess.run(
        call,
        env={**os.environ, TOLD: "avx2", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,  # stderr is left to who watches it, tests/sanitize
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
