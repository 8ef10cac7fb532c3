"""Memory that was freed is kept, and given back, in a process of its own."""

import subprocess
import sys

import pytest

from fsc.walking import heap

KEPT_AND_GIVEN_BACK = """
from pathlib import Path
import mmap, sys
import torch
from fsc.walking import heap

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE

def freed():
    block = torch.ones(1 << 24)  # 64 MiB
    full = resident()
    del block
    return (full - resident()) >> 20

print(freed())
heap.keep()
print(freed())
before = resident()
heap.give_back()
print((before - resident()) >> 20)
"""


@pytest.mark.skipif(heap._OPTION is None, reason="needs the GNU C library")
def test_what_is_freed_is_kept_until_it_is_given_back() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", KEPT_AND_GIVEN_BACK], capture_output=True, text=True, check=True
    )
    before, kept, given_back = map(int, ran.stdout.split())
    assert before >= 60 and kept <= 4 and given_back >= 60
