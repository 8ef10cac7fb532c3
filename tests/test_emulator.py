"""The host emulator itself: right results from right kernels, and faults that it must show."""

import ctypes
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    library = tmp_path_factory.mktemp("emulator") / "kernels.so"
    sources = [ROOT / "tests" / "emulation" / "kernels.cpp", ROOT / "csrc/emulation/fibers.cpp"]
    flags = ["-std=c++20", "-O1", "-shared", "-fPIC", "-DFSC_EMULATE", f"-I{ROOT / 'csrc'}"]
    subprocess.run(["g++", *flags, *map(str, sources), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.half_waits_is_refused.restype = ctypes.c_bool
    loaded.passed_on.restype = ctypes.c_bool
    return loaded


def pointer(tensor: torch.Tensor) -> ctypes.c_void_p:
    return ctypes.c_void_p(tensor.data_ptr())


def test_threads_add_up_through_shuffles_and_shared_memory(kernels: ctypes.CDLL) -> None:
    values, found = torch.randn(3, 64).double(), torch.empty(3).double()
    kernels.sums(pointer(values), pointer(found), ctypes.c_int64(3))
    torch.testing.assert_close(found, values.sum(1))


def test_a_missing_barrier_shows_what_shared_memory_held_before(kernels: ctypes.CDLL) -> None:
    output = torch.empty(64).double()
    kernels.neighbours(pointer(output), ctypes.c_bool(True))
    assert torch.equal(output, (torch.arange(64) + 1).remainder(64).double())
    kernels.neighbours(pointer(output), ctypes.c_bool(False))
    assert output.isnan().any()


def test_a_barrier_that_some_threads_never_reach_is_an_error(kernels: ctypes.CDLL) -> None:
    assert kernels.half_waits_is_refused()


def pass_around(
    kernels: ctypes.CDLL, rounds: int, missing: int = -1, together: bool = True
) -> tuple[torch.Tensor, bool]:
    """What six blocks hold in the end, from 0 to 5, and whether the emulator found them stuck."""
    values = torch.stack([torch.arange(6), torch.full((6,), -1)])
    counters = torch.zeros(3, dtype=torch.int32)
    stuck = kernels.passed_on(
        pointer(values), pointer(counters), ctypes.c_int64(6), rounds, ctypes.c_int64(missing),
        ctypes.c_bool(together),
    )  # fmt: skip
    return values[rounds % 2], stuck


@pytest.mark.parametrize("rounds", [1, 2, 25])
def test_blocks_that_run_together_wait_for_each_other(kernels: ctypes.CDLL, rounds: int) -> None:
    found, stuck = pass_around(kernels, rounds)
    expected = torch.arange(6)
    for _ in range(rounds):
        expected = 3 * expected[[1, 0, 3, 2, 5, 4]] + 1
    assert torch.equal(found, expected) and not stuck


def test_a_block_that_misses_the_barrier_of_others_is_an_error(kernels: ctypes.CDLL) -> None:
    assert pass_around(kernels, 3, missing=2)[1]


def test_blocks_that_run_in_turn_must_not_wait_for_each_other(kernels: ctypes.CDLL) -> None:
    assert pass_around(kernels, 3, together=False)[1]


def test_tensor_cores_have_the_layout_and_the_rounding_of_tf32(kernels: ctypes.CDLL) -> None:
    a, b, c = torch.randn(16, 8), torch.randn(8, 8), torch.empty(16, 8)
    kernels.product(pointer(a), pointer(b), pointer(c))
    # TF32 has 10 bits of mantissa; 2^-11 of each factor is lost at most.
    torch.testing.assert_close(c, a @ b, rtol=0, atol=2**-10 * float((a.abs() @ b.abs()).max()))
    assert not torch.equal(c, a @ b)
    whole = torch.randint(-8, 9, (16, 8)).float(), torch.randint(-8, 9, (8, 8)).float()
    kernels.product(pointer(whole[0]), pointer(whole[1]), pointer(c))
    assert torch.equal(c, whole[0] @ whole[1])
