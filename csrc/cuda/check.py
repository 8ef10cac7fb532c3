"""Compiles all CUDA sources for sm_80, 90, 100 and 120, counts, and compares with a kept table.

python csrc/cuda/check.py [--write] [--launches] [--only 80 90]

Fails where a hot kernel (figures/hot.py) spills registers, where host code calls a function of the
device, which nvcc lets pass in templates and ends the process, and where a figure is worse than
figures.json says (figures/table.py has the tolerances); --write keeps what is found.

Needs nvcc 12.8 or newer, but neither a GPU nor a torch built for CUDA: a CPU torch carries the
headers. They take longer than the kernels, so the sources are compiled as one file; that each
includes what it needs shows where the emulator compiles them one by one. The slow path of a float64
division saves a few registers, which does no harm outside hot loops; other local memory counts too:
a parameter may be copied there to be indexed. Machine code is read by cuobjdump and nvdisasm, of
CUDA_HOME, the path or the packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm. --launches asks
the host code alone, through the emulator, and needs none of them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from figures import compiling, model, sass, table
from figures.hot import TENSOR_CORES, is_hot, is_single, short_name
from figures.launches import Recorder
from figures.loops import KernelCounts, counted
from figures.operations import Work, works

Counted = dict[int, dict[str, KernelCounts]]  # by architecture and mangled name


def tell_of_registers(kernels: list[compiling.Kernel]) -> bool:
    """Print what ptxas says; whether a hot kernel uses local memory.

    Raises:
        SystemExit: it names no kernel.
    """
    variants = defaultdict(list)
    for kernel in kernels:
        variants[short_name(kernel.name).split("<")[0]].append(kernel)
    if not variants:
        raise SystemExit("check-cuda: ptxas named no kernel")
    failed = False
    for name, found in sorted(variants.items()):
        most = max(kernel.registers for kernel in found)
        print(f"{name}: {len(found)} variants, at most {most} registers")
        for kernel in found:
            if kernel.stack or kernel.spills:
                print(f"  {kernel.spills} bytes spilled, {kernel.stack} bytes of local memory by "
                      f"{kernel.name} for sm_{kernel.architecture}")  # fmt: skip
                failed |= is_hot(kernel.name)
    return failed


def machine_code(
    kernels: list[compiling.Kernel], folder: Path, architectures: Sequence[int]
) -> Counted | None:
    """The counts of the hot kernels for float32; None where no tool reads machine code."""
    tools = compiling.disassemblers()
    if tools is None:
        print(
            "check-cuda: cuobjdump and nvdisasm were not found (CUDA_HOME, the path, or the "
            "packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm): only what ptxas says and "
            "what is launched is checked"
        )
        return None
    found: Counted = {}
    for architecture in architectures:
        names = [k.name for k in kernels if k.architecture == architecture and is_single(k.name)]
        file = compiling.binary(folder, architecture)
        code = sass.functions(compiling.disassembled(tools, file, names))
        found[architecture] = {name: counted(body) for name, body in code.items()}
    return found


def kernel_rows(
    kernels: list[compiling.Kernel], counts: Counted | None, launched: list[Work]
) -> dict[str, dict[str, float]]:
    """The figures of every hot kernel for float32, as large as the operations launch it."""
    sizes: dict[str, tuple[int, int]] = {}  # most threads and shared memory
    for work in launched:
        for launch in work.recorded.launches:
            size = launch.threads, launch.shared_bytes
            sizes[launch.kernel] = max(sizes.get(launch.kernel, (0, 0)), size)
    rows = {}
    for kernel in sorted(kernels, key=lambda each: (each.architecture, each.name)):
        if not is_single(kernel.name):
            continue
        row: dict[str, float] = {"registers": kernel.registers, "spilled_bytes": kernel.spills}
        if kernel.name in sizes:
            fit = model.blocks_that_fit(kernel.architecture, kernel.registers, *sizes[kernel.name])
            row["blocks_an_sm"] = fit
        if counts is not None:
            loop = counts[kernel.architecture][kernel.name].loop
            if loop.products:
                row |= {
                    "instructions": loop.instructions,
                    "products": loop.products,
                    "product_share": round(loop.product_share, 4),
                    "divisions": loop.divisions,
                    "bytes_a_load": round(loop.bytes_a_load, 2),
                    "uncounted_loops": loop.unknown,
                }
        rows[f"sm_{kernel.architecture} {short_name(kernel.name)}"] = row
    return rows


def recorded_works() -> list[Work]:
    """All operations, on the emulator as it is built now."""
    build = Path(__file__).resolve().parents[1] / "emulation" / "build.py"
    subprocess.run([sys.executable, str(build)], check=True, stdout=subprocess.DEVNULL)
    with Recorder(TENSOR_CORES) as recorder:
        return list(works(recorder))


def operation_rows(launched: list[Work], machine: model.Machine | None) -> dict:
    """The figures of every operation on every shape."""
    return {f"{work.name} {work.shape.name}": model.figures_of(work, machine) for work in launched}


def compare(found: dict, architectures: Sequence[int]) -> list[str]:
    """What is worse than the kept table; of one that another nvcc made what no compiler changes."""
    kept = table.read()
    compared = set(table.RULES)
    if "nvcc" in found and kept.get("nvcc") != found["nvcc"]:
        print(f"check-cuda: the kept figures are those of nvcc {kept.get('nvcc')}, this is "
              f"{found['nvcc']}: only launches and bytes are compared")  # fmt: skip
        compared -= set(table.OF_COMPILER)
    own = tuple(f"sm_{architecture} " for architecture in architectures)
    rows = {name: row for name, row in kept.get("kernels", {}).items() if name.startswith(own)}
    said = []
    for title, before in (("kernels", rows), ("operations", kept.get("operations", {}))):
        if title in found:
            said += table.complaints(before, found[title], compared)
    return said


def check(arguments: argparse.Namespace) -> list[str]:
    """All that is wrong.

    Raises:
        SystemExit: there is no nvcc, or it failed.
    """
    if arguments.launches:
        found = {"operations": operation_rows(recorded_works(), None)}
        print(table.printed("operations", found["operations"]))
        return compare(found, arguments.only)
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise SystemExit("check-cuda: nvcc was not found on the PATH; install a CUDA toolkit")
    with tempfile.TemporaryDirectory() as folder:
        kernels = compiling.compiled_for_all(nvcc, Path(folder), arguments.only)
        spilled = tell_of_registers(kernels)
        ends = compiling.ends_the_process(Path(folder), arguments.only)
        counts = machine_code(kernels, Path(folder), arguments.only)
    launched = recorded_works()
    registers = {k.name: k.registers for k in kernels if k.architecture == 90}
    machine = model.Machine(registers, counts[90]) if counts else None
    found = {
        "nvcc": compiling.nvcc_version(nvcc),
        "kernels": kernel_rows(kernels, counts, launched),
        "operations": operation_rows(launched, machine),
    }
    for title in ("kernels", "operations"):
        print("\n" + table.printed(title, found[title]))
    said = ["a hot kernel uses local memory; see above"] if spilled else []
    said += ["host code calls a function of the device, which ends the process"] if ends else []
    if not arguments.write:
        return said + compare(found, arguments.only)
    if machine is None:
        raise SystemExit("check-cuda: a table without counts of machine code is not kept")
    table.write(found)
    print(f"\nkept in {table.KEPT}")
    return said


def main() -> None:
    """Checks all sources."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="keep the figures that are found")
    parser.add_argument("--launches", action="store_true", help="only launches, without nvcc")
    every = compiling.ARCHITECTURES
    parser.add_argument(
        "--only",
        nargs="+",
        type=int,
        choices=every,
        default=every,
        help="of these architectures, 90 among them, for which the times are modelled",
    )
    asked = parser.parse_args()
    if 90 not in asked.only or (asked.write and set(asked.only) != set(every)):
        rule = "all architectures with --write" if asked.write else "90 among others"
        parser.error(f"--only must be {rule}, got {' '.join(map(str, asked.only))}")
    said = check(asked)
    if said:
        raise SystemExit("\n".join(f"check-cuda: {sentence}" for sentence in said))


if __name__ == "__main__":
    main()
