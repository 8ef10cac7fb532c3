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
    for name in ("half_waits", "lines", "faulty_lines", "early_lines", "vector", "pass_on"):
        getattr(loaded, name).restype = ctypes.c_char_p  # what the emulator says against it
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
    assert b"wait at a barrier that others never reach" in kernels.half_waits()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 8])
def test_a_pipeline_brings_every_stage_in_time(kernels: ctypes.CDLL, count: int) -> None:
    lines, found = torch.randn(count, 32).double(), torch.empty(32).double()
    assert not kernels.lines(pointer(lines), ctypes.c_int64(count), 20, pointer(found))
    expected = torch.where(torch.arange(32) < 20, lines.sum(0), 0.0).roll(-1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("fault", [0, 1, 2], ids=["none", "no wait", "no barrier"])
def test_a_stage_is_undefined_before_the_wait_and_the_barrier(
    kernels: ctypes.CDLL, fault: int
) -> None:
    lines, found = torch.randn(5, 32).double(), torch.empty(32).double()
    assert not kernels.faulty_lines(pointer(lines), ctypes.c_int64(5), pointer(found), fault)
    if fault:
        assert found.isnan().any()
    else:
        torch.testing.assert_close(found, lines.sum(0).roll(-1))


def test_a_stage_that_is_filled_while_others_read_it_is_undefined(kernels: ctypes.CDLL) -> None:
    lines, found = torch.randn(32).double(), torch.empty(32).double()
    assert not kernels.early_lines(pointer(lines), pointer(found))
    assert found.isnan().any()


def test_a_copy_that_nobody_waited_for_is_an_error(kernels: ctypes.CDLL) -> None:
    lines, found = torch.randn(5, 32).double(), torch.empty(32).double()
    said = kernels.faulty_lines(pointer(lines), ctypes.c_int64(5), pointer(found), 3)
    assert b"a thread returned with copies that nobody waited for" in said


def test_copies_of_16_bytes_begin_at_multiples_of_16(kernels: ctypes.CDLL) -> None:
    values, found = torch.randn(8), torch.empty(4)
    assert not kernels.vector(pointer(values[4:]), pointer(found))
    assert torch.equal(found, values[4:])
    assert b"multiples of its bytes" in kernels.vector(pointer(values[1:]), pointer(found))


def pass_around(
    kernels: ctypes.CDLL, rounds: int, missing: int = -1, together: bool = True
) -> tuple[torch.Tensor, bytes | None]:
    """What six blocks hold in the end, from 0 to 5, and what the emulator says."""
    values = torch.stack([torch.arange(6), torch.full((6,), -1)])
    counters = torch.zeros(3, dtype=torch.int32)
    said = kernels.pass_on(
        pointer(values), pointer(counters), ctypes.c_int64(6), rounds, ctypes.c_int64(missing),
        ctypes.c_bool(together),
    )  # fmt: skip
    return values[rounds % 2], said


@pytest.mark.parametrize("rounds", [1, 2, 25])
def test_blocks_that_run_together_wait_for_each_other(kernels: ctypes.CDLL, rounds: int) -> None:
    found, said = pass_around(kernels, rounds)
    expected = torch.arange(6)
    for _ in range(rounds):
        expected = 3 * expected[[1, 0, 3, 2, 5, 4]] + 1
    assert torch.equal(found, expected) and not said


@pytest.mark.parametrize(
    "fault", [{"missing": 2}, {"together": False}], ids=["a block leaves", "one after the other"]
)
def test_a_barrier_that_some_blocks_never_reach_is_an_error(
    kernels: ctypes.CDLL, fault: dict[str, int]
) -> None:
    assert b"wait at a barrier that others never reach" in pass_around(kernels, 3, **fault)[1]


def test_tensor_cores_have_the_layout_and_the_rounding_of_tf32(kernels: ctypes.CDLL) -> None:
    a, b, c = torch.randn(16, 8), torch.randn(8, 8), torch.empty(16, 8)
    kernels.product(pointer(a), pointer(b), pointer(c))
    # TF32 has 10 bits of mantissa; 2^-11 of each factor is lost at most.
    torch.testing.assert_close(c, a @ b, rtol=0, atol=2**-10 * float((a.abs() @ b.abs()).max()))
    assert not torch.equal(c, a @ b)
    whole = torch.randint(-8, 9, (16, 8)).float(), torch.randint(-8, 9, (8, 8)).float()
    kernels.product(pointer(whole[0]), pointer(whole[1]), pointer(c))
    assert torch.equal(c, whole[0] @ whole[1])


def test_what_tensor_cores_read_of_a_value_in_two_parts_is_all_but_a_float32_of_it(
    kernels: ctypes.CDLL,
) -> None:
    values, high, low = torch.randn(32), torch.empty(32), torch.empty(32)
    values[:3] = torch.tensor([float("inf"), float("nan"), 0.0])
    values[3:5] = torch.tensor([-1, 0x7FFFFFFF], dtype=torch.int32).view(torch.float32)  # NaN
    kernels.split_values(pointer(values), pointer(high), pointer(low))
    finite = values.isfinite()
    error = (high.double() + low.double() - values.double())[finite].abs()
    assert bool((error <= 2**-21 * values[finite].abs()).all())
    assert bool((low[finite].abs() <= 2**-11 * values[finite].abs()).all())
    assert bool((high + low)[~finite].isnan().all())
