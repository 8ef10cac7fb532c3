"""How many times longer good plain PyTorch takes than our operators, against what is kept.

python bench/check.py [--only PATTERN] [--write]

Fails where a ratio has lost more than 20 % of that in kept_ratios.json, which has a table for each
set of instructions that torch may find. All versions of a case take turns in one process, on one
thread, by process CPU time; a ratio is the median of those within a round, to the version of plain
PyTorch that takes least. One that looks worse is measured again, twice and longer, at the end, and
the best counts: a neighbour comes and goes, a loss stays. --write keeps what is found, medians of
three measurements.
"""

import datetime
import sys
from contextlib import ExitStack
from fnmatch import fnmatchcase
from operator import truediv
from pathlib import Path
from statistics import median
from typing import Any

sys.path.append(str(Path(__file__).parent / "helpers"))

import bench_cross_distill
import bench_elimination
import bench_fold
import bench_gram
import bench_line_search
import bench_mimic_step
import bench_prox
import bench_quantize
import bench_solve
import bench_step
import benchmarks
import click
import torch
import winograd
from in_turns import in_turns

from fsc.files import read_json, write_json

MODULES = (
    *(bench_cross_distill, bench_elimination, bench_fold, bench_gram, bench_line_search),
    *(bench_prox, bench_quantize, bench_solve, bench_step),
)
# Of every family, at sizes of which a call takes little.
CHOSEN = (
    *("soft_cross_mix resnet56-16x32", "soft_cross_mix vgg16-128x16"),
    *("distill_residual resnet56-16x32", "distill_residual vgg16-512x2"),
    *("cross_distill_layer resnet56-16x32 soft forward",),
    *("cross_distill_layer resnet56-64x8 correction step",),
    *("solve_relu_ resnet56-16x32", "solve_relu_ resnet56-64x8"),
    *("solve_quadratic_ resnet56-16x32", "solve_quadratic_ resnet56-64x8"),
    *("gram 1x100x128x128x16", "gram 3x50x16x16x32", "gram 3x50x64x64x8"),
    *("chosen_channels 100x256x256x8",),
    *("prox_l1 vgg16-256", "prox_group_l2 vgg16-256 0", "prox_group_l2 vgg16-256 1"),
    *("keep_topk resnet56-64", "keep_topk_groups vgg16-256 0", "keep_topk_groups vgg16-256 1"),
    *("adam_prox_ resnet56-64 l1", "adam_prox_ resnet56-64 group_l2"),
    *("adam_prox_ resnet56-64 topk", "adam_prox_ resnet56-64 topk_groups"),
    *("foreach_adam_prox_ l1", "foreach_adam_prox_ group_l2"),
    *("foreach_prox_group_l2_", "foreach_absorb_conv1x1"),
    *("fuse_conv_bn 256x256x3x3", "absorb_conv1x1 64x64x3x3"),
    *("line_search_relu resnet56-16x32", "line_search_relu resnet56-64x8"),
    *("elimination_order resnet56-16", "quantize_weight vgg16-512"),
)
WINOGRAD: list[winograd.Shape] = [(50, 16, 16, 32), (50, 128, 256, 8), (50, 512, 512, 2)]

KEPT = Path(__file__).with_name("kept_ratios.json")
LOSS = 0.2
ROUNDS, SECONDS = 11, 1.0  # at least, of a measurement
LONGER = 2  # times, where one is made again

Ratios = dict[str, float]


def all_cases() -> dict[str, benchmarks.Case]:
    """Those that are checked, by name."""
    found = {name: case for module in MODULES for name, case in benchmarks.cases(module)}
    cases = {name: found[name] for name in CHOSEN}
    for shape in WINOGRAD:
        words = "x".join(map(str, shape))
        cases[f"steps {words}"] = lambda _, shape=shape: winograd.steps(shape)
        cases[f"layer {words}"] = lambda _, shape=shape: winograd.layers(shape)
    return cases | {"mimic_step resnet56-50": bench_mimic_step.steps}


def measured(case: benchmarks.Case, longer: int = 1) -> float:
    """How many times longer the fastest of plain PyTorch takes."""
    torch.manual_seed(0)
    with ExitStack() as stack:
        seconds = in_turns(case(stack), longer * ROUNDS, longer * SECONDS)
    ours = seconds.pop("fused")
    return min(median(map(truediv, plain, ours)) for plain in seconds.values())


def row(name: str, found: float, kept: float | None) -> str:
    """A line of the table."""
    before, change = "", ""
    if kept is not None:
        before, change = f"{kept:.2f}", f"{100 * (found / kept - 1):+.0f} %"
    return f"| {name:<50} | {found:11.2f} | {before:>5} | {change:>6} |"


def told(cases: dict[str, benchmarks.Case], kept: Ratios, times: int) -> Ratios:
    """Medians of so many measurements, printed line by line."""
    print(f"| {'case':<50} | plain ÷ fsc | kept  | change |")
    print(f"|{'-' * 52}|{'-' * 13}|{'-' * 7}|{'-' * 8}|", flush=True)
    found = {}
    for name, case in cases.items():
        found[name] = median(measured(case) for _ in range(times))
        print(row(name, found[name], kept.get(name)), flush=True)
    return found


def lost(found: Ratios, kept: Ratios) -> list[str]:
    """The cases that have lost more than is allowed."""
    return [name for name in found if name in kept and found[name] < (1 - LOSS) * kept[name]]


def looked_at_again(cases: dict[str, benchmarks.Case], found: Ratios, kept: Ratios) -> Ratios:
    """The best of three measurements where the first looks worse."""
    best = dict(found)
    for _ in range(2):
        for name in lost(best, kept):
            again = measured(cases[name], LONGER)
            print(row(f"{name}, again", again, kept[name]), flush=True)
            best[name] = max(best[name], again)
    return best


def keep(found: Ratios, tables: dict[str, Any], instructions: str) -> None:
    """Put ratios in the place of those that were kept for these instructions."""
    ratios = {name: float(f"{ratio:.3g}") for name, ratio in found.items()}
    of = {"torch": torch.__version__, "date": str(datetime.date.today()), "ratios": ratios}
    write_json(KEPT, tables | {instructions: of})
    print(f"\nkept in {KEPT.name} for {instructions}")


def verdict(found: Ratios, kept: Ratios, gone: list[str]) -> bool:
    """Say what was lost, what is kept of no case or not yet; whether nothing was lost."""
    for name in gone:
        print(f"{name}: kept, but there is no such case; `make bench-check WRITE=1` drops it")
    for name in found:
        if name not in kept:
            print(f"{name}: not kept yet; `make bench-check WRITE=1` keeps it")
    worse = lost(found, kept)
    print(f"{len(worse)} of {len(found)} lost more than {100 * LOSS:.0f} %")
    for name in worse:
        print(row(name, found[name], kept[name]))
    return not worse


@click.command()
@click.option("--only", default="", help="Cases whose names have this, with * for anything.")
@click.option("--write", is_flag=True, help="Keep what is found: medians of three measurements.")
def main(only: str, write: bool) -> None:
    """Measure, compare and tell."""
    if only and write:
        raise click.UsageError("--write must be given without --only: a table is of one day")
    torch.set_num_threads(1)
    every = all_cases()
    cases = {name: case for name, case in every.items() if fnmatchcase(name, f"*{only}*")}
    if not cases:
        raise click.UsageError(f"--only must be in the name of a case, got {only!r}")
    tables = read_json(KEPT, "table of ratios") if KEPT.exists() else {}
    instructions = torch.backends.cpu.get_cpu_capability()
    table = tables.get(instructions)
    of = "kept on {date} with torch {torch}".format(**table) if table else "nothing kept"
    print(f"{instructions}, torch {torch.__version__}; {of}\n")
    kept = table["ratios"] if table else {}
    found = told(cases, kept, 3 if write else 1)
    if write:
        return keep(found, tables, instructions)
    found = looked_at_again(cases, found, kept)
    print()
    if not table:
        print(f"nothing kept for {instructions}: `make bench-check WRITE=1` keeps these")
    elif not verdict(found, kept, [name for name in kept if name not in every]):
        sys.exit(1)


if __name__ == "__main__":
    main()
