"""The sanitizers' builds: what is read of their words."""

import runpy
import sys
from pathlib import Path

import pytest

CHECK = runpy.run_path(str(Path(__file__).parent / "sanitize" / "check.py"), run_name="check")

MEMORY = """
=================================================================
==77==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x602000000018 at pc 0x7f bp 0x1
READ of size 4 at 0x602000000018 thread T0
    #0 0x7f in memcpy /usr/lib/libasan.so
    #1 0x7f in step /here/csrc/cpu/step_kernels.h:45
    #2 0x7f in run /here/csrc/cpu/step.cpp:20
==77==ERROR: AddressSanitizer: heap-buffer-overflow on address 0x602000000028 at pc 0x8f
READ of size 8 at 0x602000000028 thread T0
    #0 0x7f in step /here/csrc/cpu/step_kernels.h:45
/here/csrc/cpu/prox.cpp:12:5: runtime error: signed integer overflow: 2147483647 + 1
/torch/include/c10/util/Half.h:3:1: runtime error: 1e+10 is outside the range
    #0 0x7f in half /torch/include/c10/util/Half.h:3
    #1 0x7f in apply /torch/include/torch/csrc/autograd/custom_function.h:9
"""
THREADS = """
WARNING: ThreadSanitizer: data race (pid=12)
  Write of size 4 at 0x55 by main thread:
    #0 main t.cpp:2 (t+0x1279)
"""


def test_words_of_the_sanitizers_are_counted():
    assert CHECK["findings"](MEMORY + THREADS) == {
        "csrc/cpu/step_kernels.h:45: AddressSanitizer: heap-buffer-overflow": 2,
        "csrc/cpu/prox.cpp:12: runtime error: signed integer overflow: 2147483647 + 1": 1,
        "/torch/include/c10/util/Half.h:3: runtime error: 1e+10 is outside the range": 1,
        "elsewhere: ThreadSanitizer: data race": 1,
    }
    assert not CHECK["findings"]("1,900 passed in 60 s\nWARNING: a test is slow\n")


def test_unknown_kinds_are_refused(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check.py", "adress"])
    with pytest.raises(SystemExit):
        CHECK["main"]()
    assert "KIND must be one of address, emulated, threads, got adress" in capsys.readouterr().err
