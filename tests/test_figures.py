"""The figures of make check-cuda: machine code, launches, the kept table."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CUDA = ROOT / "csrc" / "cuda"
sys.path.append(str(CUDA))

from figures import hot, loops, model, sass, table  # noqa: E402
from figures.trips import trips_of  # noqa: E402


def dump(*lines: str, name: str = "_Z6kernelv") -> str:
    """Instructions 16 bytes apart from 0 on, as cuobjdump -sass prints them."""
    listed = [f"\t\tFunction : {name}", '\t.headerflags\t@"EF_CUDA_SM90"']
    for i, line in enumerate(lines):
        predicate, _, rest = line.rpartition("@")[2].partition(" ") if line[0] == "@" else ("",) * 3
        shown = f"@{predicate} {rest}" if predicate else f"    {line}"
        listed.append(f"        /*{16 * i:04x}*/  {shown} ;   /* 0x000fe20000000800 */")
        listed.append("                               /* 0x000fe20000000800 */")
    return "\n".join(listed)


def code(*lines: str) -> list[sass.Instruction]:
    return sass.functions(dump(*lines))["_Z6kernelv"]


PRODUCT = "HMMA.1688.F32.TF32 R8, R4, R2, R8"
# Slabs in a loop of unknown length: each a copy, and four times two products.
SLABS = (
    "MOV R0, RZ",
    "LDGSTS.E.BYPASS.LTC128B.128 [R4], desc[UR4][R2.64], P2",
    "IMAD.MOV.U32 R1, RZ, RZ, RZ",
    PRODUCT,
    PRODUCT,
    "VIADD R1, R1.reuse, 0x8",
    "ISETP.NE.AND P0, PT, R1, 0x20, PT",
    "@P0 BRA 0x30",
    "IADD3 R0, R0, 0x1, RZ",
    "ISETP.GE.AND P1, PT, R0, UR7, PT",
    "@!P1 BRA 0x10",
    "EXIT",
    "BRA 0xc0",
    "NOP",
)


def test_machine_code_is_read_by_function_and_instruction() -> None:
    both = dump("MOV R0, RZ", "EXIT", name="_Z1av") + "\n" + dump(*SLABS, name="_Z1bv")
    found = sass.functions(both)
    assert list(found) == ["_Z1av", "_Z1bv"]
    copy, branch = found["_Z1bv"][1], found["_Z1bv"][10]
    assert (copy.address, copy.name, copy.predicate) == (16, "LDGSTS", "")
    assert sass.load_bytes(copy) == 16
    assert (branch.target, branch.conditions) == (16, ["!P1"])
    assert len(found["_Z1bv"]) == 12  # not what the assembler fills up with


@pytest.mark.parametrize(
    "load, size",
    [
        ("LDG.E R4, desc[UR4][R2.64]", 4),
        ("LDG.E.64.CONSTANT R4, desc[UR4][R2.64]", 8),
        ("LDG.E.U16 R4, desc[UR4][R2.64]", 2),
        ("LDGSTS.E [R4], desc[UR4][R2.64]", 4),
        ("LDS.128 R4, [R2]", 0),
    ],
)
def test_bytes_of_loads_from_global_memory(load: str, size: int) -> None:
    assert sass.load_bytes(code(load)[0]) == size


def test_an_iteration_counts_inner_loops_as_often_as_they_run() -> None:
    found = loops.counted(code(*SLABS))
    assert found.loop == loops.Counts(instructions=5 + 4 * 5, products=8, loads=1, loaded_bytes=16)
    assert found.loop.product_share == 8 / 25 and found.loop.bytes_a_load == 16
    assert found.outside == 2


def test_the_main_loop_has_no_inner_loop_of_unknown_length() -> None:
    panels = [line.replace("0x20", "UR9") for line in SLABS]
    assert loops.counted(code(*panels)).loop == loops.Counts(instructions=5, products=2)


@pytest.mark.parametrize(
    "start, step, test, branch, trips",
    [
        ("MOV R1, 0x2", "IADD3 R1, P3, R1, 0x2, RZ",
         "ISETP.LT.AND P0, PT, R1, 0xa, PT", "@P0 BRA", 4),
        ("MOV R1, 0x4", "VIADD R1, R1, 0xffffffff",
         "ISETP.NE.AND P0, PT, R1, RZ, PT", "@P0 BRA", 4),
        ("UMOV UR1, 0x0", "UIADD3 UR1, UR1, 0x1, URZ",
         "UISETP.GE.AND UP0, UPT, UR1, 0x3, UPT", "@!UP0 BRA", 3),
        # As sm_100 and sm_120 branch.
        ("UMOV UR1, URZ", "UIADD3 UR1, UPT, UPT, UR1, 0x8, URZ",
         "UISETP.GE.U32.AND UP0, UPT, UR1, 0x20, UPT", "BRA.U !UP0,", 4),
        # That of threads that share a loop; unknown where it counts down.
        ("S2R R1, SR_TID.X", "VIADD R1, R1, 0x80",
         "ISETP.GE.AND P0, PT, R1, 0x200, PT", "@!P0 BRA", 4),
        ("S2R R1, SR_TID.X", "VIADD R1, R1, 0xffffffff",
         "ISETP.NE.AND P0, PT, R1, RZ, PT", "@P0 BRA", None),
        ("MOV R1, RZ", "VIADD R1, R1, 0x1",
         "ISETP.NE.AND P0, PT, R1, R5, PT", "@P0 BRA", None),
    ],
)  # fmt: skip
def test_trips_of_a_loop(start: str, step: str, test: str, branch: str, trips: int | None) -> None:
    flow = loops.Ways(code(start, PRODUCT, step, test, f"{branch} 0x10", "EXIT")).flow
    assert trips_of(flow, flow.loops[0]) == trips


def test_a_counter_that_is_compared_before_it_is_counted_on() -> None:
    lines = ("VIADD R2, R1, 0x8", "ISETP.GE.AND P0, PT, R1, 0x18, PT", "MOV R1, R2")
    flow = loops.Ways(code("S2R R1, SR_TID.X", PRODUCT, *lines, "@!P0 BRA 0x10", "EXIT")).flow
    assert trips_of(flow, flow.loops[0]) == 4


def test_of_two_branches_the_longer_counts() -> None:
    found = loops.counted(
        code(
            PRODUCT,
            "@P1 BRA 0x50",
            "MOV R1, R2",
            "MOV R1, R2",
            "BRA 0x60",
            "MOV R1, R3",
            "@P0 BRA 0x0",
            "EXIT",
        )
    )
    assert found.loop.instructions == 6


def test_integer_divisions_count_inline_and_in_subroutines() -> None:
    found = loops.counted(
        code(
            PRODUCT,
            "I2F.U32.RP R4, R3",
            "MUFU.RCP R4, R4",
            "CALL.REL.NOINC 0x80",
            "CALL.REL.NOINC 0xb0",
            "I2F.U32 R4, R3",
            "@P0 BRA 0x0",
            "EXIT",
            "I2F.U64.RP R4, R2",
            "MUFU.RCP R4, R4",
            "RET.REL.NODEC R20 0x0",
            "MUFU.RCP64H R5, R3",  # the slow path of a floating point division
            "RET.REL.NODEC R20 0x0",
        )
    )
    assert found.loop.divisions == 2
    assert found.loop.instructions == 7 + 3


# Registers and blocks as ptxas and the occupancy calculator of CUDA give them.
@pytest.mark.parametrize(
    "architecture, registers, threads, shared, blocks",
    [
        (90, 201, 128, 73 << 10, 2),
        (90, 161, 128, 36 << 10, 3),
        (90, 119, 256, 41 << 10, 2),
        (90, 128, 512, 200 << 10, 1),
        (80, 32, 256, 0, 8),
        (120, 32, 256, 0, 6),
        (120, 64, 128, 100 << 10, 0),
    ],
)
def test_blocks_on_a_multiprocessor(
    architecture: int, registers: int, threads: int, shared: int, blocks: int
) -> None:
    assert model.blocks_that_fit(architecture, registers, threads, shared) == blocks


def test_hot_kernels_are_there_and_named_in_words() -> None:
    sources = "".join(path.read_text() for path in CUDA.glob("*.cuh"))
    assert [name for name in hot.HOT if not re.search(rf"\b{name}\(", sources)] == []
    mangled = "_ZN3fsc6device17gram_tiles_kernelI{}EEvPKdl"
    assert hot.short_name(mangled.format("f")) == "gram_tiles_kernel<float>"
    assert hot.short_name(mangled.format("fLi48E")) == "gram_tiles_kernel<float, 48>"
    assert hot.is_single(mangled.format("f")) and hot.is_hot(mangled.format("f"))
    assert not hot.is_hot(mangled.format("d"))


KEPT = {"sm_90 a_kernel<float>": {"registers": 100, "product_share": 0.2, "divisions": 0}}


@pytest.mark.parametrize(
    "figure, value, sentence",
    [
        ("product_share", 0.1, "product_share must be at least 0.2 as kept, found 0.1"),
        ("divisions", 1, "divisions must be at most 0 as kept, found 1"),
        ("registers", 106, "registers must be at most 100 as kept, found 106"),
    ],
)
def test_a_worse_figure_is_told(figure: str, value: float, sentence: str) -> None:
    name = "sm_90 a_kernel<float>"
    assert table.complaints(KEPT, {name: KEPT[name] | {figure: value}}) == [f"{name}: {sentence}"]


def test_better_figures_and_those_within_the_tolerance_pass() -> None:
    name = "sm_90 a_kernel<float>"
    found = {name: {"registers": 105, "product_share": 0.3, "divisions": 0, "instructions": 9}}
    assert table.complaints(KEPT, found) == []
    assert table.complaints(KEPT, {name: {"divisions": 1}}, {"registers"}) == []


def test_rows_that_only_one_table_has_are_told() -> None:
    renamed = {"sm_90 b_kernel<float>": KEPT["sm_90 a_kernel<float>"]}
    said = table.complaints(KEPT, renamed)
    assert said[0] == "sm_90 b_kernel<float>: the kept table has no such row"
    assert said[1].startswith("sm_90 a_kernel<float>: the kept table has this row, but")


def test_a_kept_table_is_read_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table, "KEPT", tmp_path / "figures.json")
    whole = {"nvcc": "13.0", "kernels": KEPT, "operations": {"gram": {"blocks": 3, "waves": 0.5}}}
    table.write(whole)
    assert table.read() == whole
    shown = table.printed("kernels", KEPT).splitlines()
    assert shown[0].split() == ["kernels", "registers", "product_share", "divisions"]


def test_the_kept_table_has_twelve_shapes_and_every_architecture() -> None:
    kept = json.loads(table.KEPT.read_text())
    for operation in ("forward", "gradient", "relu step", "gram"):
        assert sum(name.startswith(f"{operation} ") for name in kept["operations"]) == 12
    for architecture in (80, 90, 100, 120):
        assert any(name.startswith(f"sm_{architecture} ") for name in kept["kernels"])


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        (["--only", "80"], "--only must be 90 among others, got 80"),
        (["--only", "90", "--write"], "--only must be all architectures with --write, got 90"),
    ],
)
def test_architectures_that_make_no_table(arguments: list[str], rule: str) -> None:
    command = [sys.executable, str(ROOT / "csrc" / "cuda" / "check.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and rule in done.stderr
